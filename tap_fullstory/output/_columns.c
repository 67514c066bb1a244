/* Fill Arrow's columns from record lines, in one pass over their bytes.

   The lines are those that either encoder has written: each is one JSON object, valid, without line
   breaks inside, with every key once. What they hold has been verified, so nothing is verified again
   but what the buffers depend on: no read goes past the end of the lines, and a value that is not of
   its column's kind raises ValueError.

   Keys are predicted: after a key comes the one that came after it last time, mostly.

   `finish` hands the columns over as the two PyCapsules of the Arrow PyCapsule interface
   (arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html): a struct array with one child
   for each column. Whoever imports it owns the buffers from then on. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#if PY_VERSION_HEX >= 0x030D0000
/* As in _native.c: a module built with newer headers must work on older Pythons. */
PyAPI_FUNC(int) _PyArg_ParseTuple_SizeT(PyObject *, const char *, ...);
PyAPI_FUNC(PyObject *) _Py_BuildValue_SizeT(const char *, ...);
#define PyArg_ParseTuple _PyArg_ParseTuple_SizeT
#define Py_BuildValue _Py_BuildValue_SizeT
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What a column holds. */
typedef enum { INT64, FLOAT64, BOOL, TIMESTAMP, STRING, JSON_TEXT, KINDS } Kind;

/* arrow.apache.org/docs/format/CDataInterface.html, "Data type description": format strings. */
static const char *const FORMATS[KINDS] = {"l", "g", "b", "tsu:UTC", "u", "u"};

/* The two structures of the Arrow C data interface, as that page defines them. */
#define ARROW_FLAG_NULLABLE 2

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

enum {
    MAX_COLUMN_BYTES = INT32_MAX, /* of the text of a column: offsets are 32-bit */
    MAX_NUMBER_BYTES = 4400,      /* as columns.MAX_DIGITS, with room for a sign and an exponent */
};

typedef const unsigned char *Text;

typedef struct {
    unsigned char *bytes;
    size_t length;
    size_t capacity;
} Buffer;

typedef struct Column {
    char *name; /* as it is in the lines, between its quotes */
    size_t length;
    PyObject *label; /* the same as text */
    Kind kind;
    Buffer validity;
    Buffer values;
    Buffer offsets; /* of STRING and JSON_TEXT */
    int64_t rows;
    int64_t nulls;
    struct Column *next; /* the column that came after it last time */
} Column;

typedef struct {
    PyObject_HEAD
    Column *columns;
    Py_ssize_t count;
    int64_t rows;
} Builder;

/* --- buffers --- */

static int
grow(Buffer *buffer, size_t needed)
{
    size_t capacity = buffer->capacity ? buffer->capacity : 1024;
    while (capacity < needed)
        capacity *= 2;
    unsigned char *bytes = realloc(buffer->bytes, capacity);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 1;
}

/* Make room for `more` bytes; 0 if there is no memory. */
static inline int
reserve(Buffer *buffer, size_t more)
{
    size_t needed = buffer->length + more;
    return needed <= buffer->capacity || grow(buffer, needed);
}

static inline int
append(Buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0)
        return 1;
    if (!reserve(buffer, length))
        return 0;
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    return 1;
}

/* Set bit number `row` of a bitmap that is filled in order. */
static inline int
append_bit(Buffer *buffer, int64_t row, int bit)
{
    if (row % 8 == 0) {
        static const unsigned char none = 0;
        if (!append(buffer, &none, 1))
            return 0;
    }
    buffer->bytes[row / 8] |= (unsigned char)(bit << (row % 8));
    return 1;
}

/* --- columns --- */

static int
append_offset(Column *column)
{
    if (column->values.length > MAX_COLUMN_BYTES) {
        PyErr_SetString(PyExc_OverflowError, "a column holds more than 2 GB of text");
        return 0;
    }
    int32_t offset = (int32_t)column->values.length;
    return append(&column->offsets, &offset, sizeof offset);
}

static int
has_offsets(Kind kind)
{
    return kind == STRING || kind == JSON_TEXT;
}

/* End a row of a column, whose value has been appended. */
static inline int
end_row(Column *column)
{
    if (!append_bit(&column->validity, column->rows, 1))
        return 0;
    if (has_offsets(column->kind) && !append_offset(column))
        return 0;
    column->rows++;
    return 1;
}

/* Append zeros until the buffer has `length` bytes. */
static inline int
append_zeros(Buffer *buffer, size_t length)
{
    if (length <= buffer->length)
        return 1;
    size_t more = length - buffer->length;
    if (!reserve(buffer, more))
        return 0;
    memset(buffer->bytes + buffer->length, 0, more);
    buffer->length = length;
    return 1;
}

/* Append nulls to a column until it has `rows` rows. */
static int
fill(Column *column, int64_t rows)
{
    if (rows <= column->rows)
        return 1;
    size_t more = (size_t)(rows - column->rows), bitmap = (size_t)(rows + 7) / 8;
    if (!append_zeros(&column->validity, bitmap))
        return 0;
    if (has_offsets(column->kind)) {
        if (!reserve(&column->offsets, more * sizeof(int32_t)))
            return 0;
        int32_t offset = (int32_t)column->values.length;
        for (size_t i = 0; i < more; i++) {
            memcpy(column->offsets.bytes + column->offsets.length, &offset, sizeof offset);
            column->offsets.length += sizeof offset;
        }
    }
    else if (!append_zeros(&column->values,
                           column->kind == BOOL ? bitmap : (size_t)rows * sizeof(int64_t)))
        return 0;
    column->nulls += rows - column->rows;
    column->rows = rows;
    return 1;
}

static int
not_of(Column *column)
{
    PyErr_Format(PyExc_ValueError, "a value of the column %R is of another type", column->label);
    return 0;
}

/* --- values --- */

static int
append_int64(Column *column, Text at, Text end)
{
    int negative = at < end && *at == '-';
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    at += negative;
    if (at == end)
        return not_of(column);
    for (; at < end; at++) {
        unsigned digit = *at - (unsigned)'0';
        if (digit > 9 || value > (limit - digit) / 10)
            return not_of(column);
        value = value * 10 + digit;
    }
    int64_t number = (int64_t)(negative ? 0 - value : value);
    return append(&column->values, &number, sizeof number);
}

static int
append_float64(Column *column, Text start, Text end)
{
    /* Up to 15 digits and 22 places: both are exact as doubles, and so is the one division. */
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    Text at = start;
    int negative = at < end && *at == '-', places = 0, digits = 0, in_fraction = 0;
    int64_t mantissa = 0;
    at += negative;
    for (; at < end && digits <= 15; at++) {
        if (*at == '.') {
            in_fraction = 1;
            continue;
        }
        if (*at < '0' || *at > '9')
            break;
        mantissa = mantissa * 10 + (*at - '0');
        digits++;
        places += in_fraction;
    }
    double number;
    if (at == end && digits && digits <= 15) {
        number = (double)mantissa / powers[places];
        number = negative ? -number : number;
    }
    else {
        char text[MAX_NUMBER_BYTES + 1], *after;
        size_t length = (size_t)(end - start);
        if (length > MAX_NUMBER_BYTES)
            return not_of(column);
        memcpy(text, start, length);
        text[length] = 0;
        number = PyOS_string_to_double(text, &after, NULL); /* beyond a double: infinite */
        if (number == -1.0 && PyErr_Occurred()) {
            PyErr_Clear();
            return not_of(column);
        }
        if (after != text + length)
            return not_of(column);
    }
    return append(&column->values, &number, sizeof number);
}

static int
append_bool(Column *column, Text at, Text end)
{
    int is_true = end - at == 4 && memcmp(at, "true", 4) == 0;
    if (!is_true && !(end - at == 5 && memcmp(at, "false", 5) == 0))
        return not_of(column);
    return append_bit(&column->values, column->rows, is_true);
}

/* Read `count` digits; -1 if they are not all digits. */
static int
digits_at(Text at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

/* The days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible
   Low-Level Date Algorithms", days_from_civil). */
static int64_t
days_since_epoch(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* An RFC 3339 date-time between quotes, as microseconds since 1970. */
static int
append_timestamp(Column *column, Text at, Text end)
{
    if (end - at < 22 || *at != '"' || end[-1] != '"')
        return not_of(column);
    at++, end--;
    int year = digits_at(at, 4), month = digits_at(at + 5, 2), day = digits_at(at + 8, 2);
    int hour = digits_at(at + 11, 2), minute = digits_at(at + 14, 2), second = digits_at(at + 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || minute < 0 ||
        second < 0)
        return not_of(column);
    at += 19;
    int64_t micros = 0;
    if (*at == '.') {
        int scale = 100000;
        for (at++; at < end && *at >= '0' && *at <= '9'; at++, scale /= 10)
            micros += (int64_t)(*at - '0') * scale; /* what is finer is zero: see columns.py */
    }
    int64_t offset = 0;
    if (at < end && (*at == '+' || *at == '-')) {
        if (end - at != 6)
            return not_of(column);
        int hours = digits_at(at + 1, 2), minutes = digits_at(at + 4, 2);
        if (hours < 0 || minutes < 0)
            return not_of(column);
        offset = (hours * 60 + minutes) * (*at == '-' ? -60 : 60);
    }
    else if (end - at != 1)
        return not_of(column);
    int64_t seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    int64_t value = (seconds - offset) * 1000000 + micros;
    return append(&column->values, &value, sizeof value);
}

static int
hex4(Text at)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t
utf8(unsigned char *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (unsigned char)(0xC0 | code >> 6);
        to[1] = (unsigned char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (unsigned char)(0xE0 | code >> 12);
        to[1] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        to[2] = (unsigned char)(0x80 | (code & 0x3F));
        return 3;
    }
    to[0] = (unsigned char)(0xF0 | code >> 18);
    to[1] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
    to[2] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
    to[3] = (unsigned char)(0x80 | (code & 0x3F));
    return 4;
}

/* A string between quotes, without its escapes. It is never longer than its JSON. */
static int
append_string(Column *column, Text at, Text end, int has_escapes)
{
    if (end - at < 2 || *at != '"' || end[-1] != '"')
        return not_of(column);
    at++, end--;
    Buffer *buffer = &column->values;
    if (!has_escapes)
        return append(buffer, at, (size_t)(end - at));
    if (!reserve(buffer, (size_t)(end - at)))
        return 0;
    unsigned char *to = buffer->bytes + buffer->length;
    while (at < end) {
        Text escape = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((escape ? escape : end) - at);
        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (escape == NULL)
            break;
        if (end - at < 2)
            return not_of(column);
        switch (at[1]) {
        case 'b': *to++ = '\b'; break;
        case 'f': *to++ = '\f'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case 't': *to++ = '\t'; break;
        case '"': case '\\': case '/': *to++ = at[1]; break;
        case 'u': {
            int code = end - at < 6 ? -1 : hex4(at + 2);
            if (code < 0)
                return not_of(column);
            if (code >= 0xD800 && code < 0xDC00) {
                int low = end - at < 12 || at[6] != '\\' || at[7] != 'u' ? -1 : hex4(at + 8);
                if (low < 0xDC00 || low > 0xDFFF)
                    return not_of(column);
                to += utf8(to, 0x10000 + ((uint32_t)(code - 0xD800) << 10) + (uint32_t)(low - 0xDC00));
                at += 10;
            }
            else if (code >= 0xDC00 && code < 0xE000)
                return not_of(column);
            else {
                to += utf8(to, (uint32_t)code);
                at += 4;
            }
            break;
        }
        default: return not_of(column);
        }
        at += 2;
    }
    buffer->length = (size_t)(to - buffer->bytes);
    return 1;
}

static int
append_value(Column *column, Text at, Text end, int has_escapes)
{
    if (end - at == 4 && memcmp(at, "null", 4) == 0)
        return fill(column, column->rows + 1);
    int appended = 0;
    switch (column->kind) {
    case INT64: appended = append_int64(column, at, end); break;
    case FLOAT64: appended = append_float64(column, at, end); break;
    case BOOL: appended = append_bool(column, at, end); break;
    case TIMESTAMP: appended = append_timestamp(column, at, end); break;
    case STRING: appended = append_string(column, at, end, has_escapes); break;
    case JSON_TEXT: appended = append(&column->values, at, (size_t)(end - at)); break;
    case KINDS: break;
    }
    return appended && end_row(column);
}

/* --- lines --- */

static inline Text
skip_whitespace(Text at, Text end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

/* Return the place after the string that begins at `at`; NULL if it has no end. `has_escapes` becomes
   1 if there are any. */
static inline Text
string_end(Text at, Text end, int *has_escapes)
{
    Text quote = at;
    at++;
    for (;;) {
        if (quote < at && (quote = at < end ? memchr(at, '"', (size_t)(end - at)) : NULL) == NULL)
            return NULL;
        Text escape = memchr(at, '\\', (size_t)(quote - at));
        if (escape == NULL)
            return quote + 1;
        *has_escapes = 1;
        at = escape + 2;
    }
}

/* Return the place after the value that begins at `at`; NULL if it has no end. */
static inline Text
value_end(Text at, Text end, int *has_escapes)
{
    if (at == end)
        return NULL;
    if (*at == '"')
        return string_end(at, end, has_escapes);
    if (*at != '{' && *at != '[') {
        while (at < end && *at != ',' && *at != '}' && *at != ' ' && *at != '\t' && *at != '\r')
            at++;
        return at;
    }
    int64_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            if ((at = string_end(at, end, has_escapes)) == NULL)
                return NULL;
            continue;
        }
        if (*at == '{' || *at == '[')
            depth++;
        else if ((*at == '}' || *at == ']') && --depth == 0)
            return at + 1;
        at++;
    }
    return NULL;
}

/* Return the column of a key, which is `length` bytes between quotes; NULL if there is none. */
static inline Column *
column_of(Builder *self, Column *predicted, Text key, size_t length)
{
    if (predicted && predicted->length == length && memcmp(predicted->name, key, length) == 0)
        return predicted;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Column *column = &self->columns[i];
        if (column->length == length && memcmp(column->name, key, length) == 0)
            return column;
    }
    return NULL;
}

static Text
malformed(void)
{
    PyErr_SetString(PyExc_ValueError, "a line is not a JSON object with these columns");
    return NULL;
}

/* Append the line that begins at `at`; return the place after it, NULL with an exception set if it
   cannot be. */
static Text
append_line(Builder *self, Text at, Text end)
{
    at = skip_whitespace(at, end);
    if (at == end || *at != '{')
        return malformed();
    at = skip_whitespace(at + 1, end);
    Column *last = NULL;
    while (at < end && *at == '"') {
        Text key = at + 1;
        int has_escapes = 0;
        if ((at = string_end(at, end, &has_escapes)) == NULL)
            return malformed();
        Column *column = column_of(self, last ? last->next : self->columns, key, (size_t)(at - 1 - key));
        at = skip_whitespace(at, end);
        if (column == NULL || at == end || *at != ':')
            return malformed();
        Text value = skip_whitespace(at + 1, end);
        has_escapes = 0;
        if ((at = value_end(value, end, &has_escapes)) == NULL)
            return malformed();
        if (column->rows > self->rows)
            return malformed(); /* a key that is there twice */
        if (!fill(column, self->rows) || !append_value(column, value, at, has_escapes))
            return NULL;
        if (last)
            last->next = column;
        last = column;
        at = skip_whitespace(at, end);
        if (at < end && *at == ',')
            at = skip_whitespace(at + 1, end);
    }
    if (at == end || *at != '}')
        return malformed();
    at = skip_whitespace(at + 1, end);
    if (at < end && *at++ != '\n')
        return malformed();
    self->rows++;
    return at;
}

PyDoc_STRVAR(append_doc, "append(lines)\n--\n\nAdd records, a JSON object a line; return how many rows "
                         "there are now.\n\nRaises ValueError if a value is not of its column's kind; the "
                         "builder cannot be used then.");

static PyObject *
builder_append(Builder *self, PyObject *argument)
{
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(argument, &bytes, &size) < 0)
        return NULL;
    Text at = (Text)bytes, end = at + size;
    while (at < end) {
        if ((at = append_line(self, at, end)) == NULL || PyErr_CheckSignals() < 0)
            return NULL;
    }
    return PyLong_FromLongLong(self->rows);
}

/* --- handing over --- */

static void
release_schema(struct ArrowSchema *schema)
{
    for (int64_t i = 0; i < schema->n_children; i++) {
        struct ArrowSchema *child = schema->children[i];
        if (child->release)
            child->release(child);
        free(child);
    }
    free(schema->children);
    free((void *)schema->name);
    schema->release = NULL;
}

static void
release_array(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        struct ArrowArray *child = array->children[i];
        if (child->release)
            child->release(child);
        free(child);
    }
    free(array->children);
    for (int64_t i = 0; i < array->n_buffers; i++)
        free((void *)array->buffers[i]);
    free(array->buffers);
    array->release = NULL;
}

static void
destroy_schema(PyObject *capsule)
{
    struct ArrowSchema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release)
        schema->release(schema);
    free(schema);
}

static void
destroy_array(PyObject *capsule)
{
    struct ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release)
        array->release(array);
    free(array);
}

/* Return a schema with room for `children`; NULL if there is no memory. */
static struct ArrowSchema *
new_schema(const char *format, const char *name, int64_t children)
{
    struct ArrowSchema *schema = calloc(1, sizeof *schema);
    if (schema == NULL)
        return NULL;
    schema->format = format;
    schema->flags = ARROW_FLAG_NULLABLE;
    schema->release = release_schema;
    schema->name = strdup(name);
    schema->children = children ? calloc((size_t)children, sizeof *schema->children) : NULL;
    if (schema->name == NULL || (children && schema->children == NULL)) {
        release_schema(schema);
        free(schema);
        return NULL;
    }
    return schema;
}

static struct ArrowArray *
new_array(int64_t length, int64_t buffers, int64_t children)
{
    struct ArrowArray *array = calloc(1, sizeof *array);
    if (array == NULL)
        return NULL;
    array->length = length;
    array->release = release_array;
    array->buffers = calloc((size_t)buffers, sizeof *array->buffers);
    array->children = children ? calloc((size_t)children, sizeof *array->children) : NULL;
    if (array->buffers == NULL || (children && array->children == NULL)) {
        release_array(array);
        free(array);
        return NULL;
    }
    array->n_buffers = buffers;
    return array;
}

/* Move what a buffer holds out of it. One that is empty becomes a place that can be read. */
static void *
take(Buffer *buffer)
{
    void *bytes = buffer->bytes ? buffer->bytes : calloc(1, 8);
    *buffer = (Buffer){0};
    return bytes;
}

static int
hand_over(Column *column, struct ArrowSchema *schema, struct ArrowArray *array)
{
    int64_t buffers = has_offsets(column->kind) ? 3 : 2;
    const char *name = PyUnicode_AsUTF8AndSize(column->label, NULL);
    if (name == NULL)
        return 0;
    struct ArrowSchema *field = new_schema(FORMATS[column->kind], name, 0);
    struct ArrowArray *values = new_array(column->rows, buffers, 0);
    if (field == NULL || values == NULL) {
        if (field) {
            release_schema(field);
            free(field);
        }
        if (values) {
            release_array(values);
            free(values);
        }
        PyErr_NoMemory();
        return 0;
    }
    values->null_count = column->nulls;
    values->buffers[0] = take(&column->validity);
    if (buffers == 3)
        values->buffers[1] = take(&column->offsets);
    values->buffers[buffers - 1] = take(&column->values);
    schema->children[schema->n_children++] = field;
    array->children[array->n_children++] = values;
    column->rows = column->nulls = 0;
    for (int64_t i = 0; i < buffers; i++) {
        if (values->buffers[i] == NULL) {
            PyErr_NoMemory();
            return 0;
        }
    }
    return 1;
}

/* Begin the columns that have offsets: there is one more of these than of rows. */
static int
begin(Builder *self)
{
    self->rows = 0;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Column *column = &self->columns[i];
        if (has_offsets(column->kind) && !append_offset(column))
            return 0;
    }
    return 1;
}

PyDoc_STRVAR(finish_doc, "finish()\n--\n\nReturn the rows as the two capsules of __arrow_c_array__, and "
                         "begin with none again.");

static PyObject *
builder_finish(Builder *self, PyObject *unused)
{
    (void)unused;
    for (Py_ssize_t i = 0; i < self->count; i++)
        if (!fill(&self->columns[i], self->rows))
            return NULL;
    struct ArrowSchema *schema = new_schema("+s", "", self->count);
    struct ArrowArray *array = new_array(self->rows, 1, self->count);
    PyObject *capsules[2] = {NULL, NULL}, *result = NULL;
    if (schema == NULL || array == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    schema->flags = 0;
    int complete = 1;
    for (Py_ssize_t i = 0; i < self->count && complete; i++)
        complete = hand_over(&self->columns[i], schema, array);
    if (!complete || !begin(self))
        goto done;
    if ((capsules[0] = PyCapsule_New(schema, "arrow_schema", destroy_schema)) == NULL)
        goto done;
    schema = NULL;
    if ((capsules[1] = PyCapsule_New(array, "arrow_array", destroy_array)) == NULL)
        goto done;
    array = NULL;
    result = PyTuple_Pack(2, capsules[0], capsules[1]);
done:
    Py_XDECREF(capsules[0]);
    Py_XDECREF(capsules[1]);
    if (schema) {
        release_schema(schema);
        free(schema);
    }
    if (array) {
        release_array(array);
        free(array);
    }
    return result;
}

/* --- the type --- */

static void
builder_dealloc(Builder *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Column *column = &self->columns[i];
        free(column->name);
        Py_XDECREF(column->label);
        free(column->validity.bytes);
        free(column->values.bytes);
        free(column->offsets.bytes);
    }
    free(self->columns);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Read one row of the argument: a name, the same as it is in the lines, and a kind. */
static int
read_column(Column *column, PyObject *row)
{
    const char *key;
    Py_ssize_t length;
    int kind;
    if (!PyTuple_Check(row)) {
        PyErr_SetString(PyExc_TypeError, "a column is a tuple");
        return 0;
    }
    if (!PyArg_ParseTuple(row, "Uy#i", &column->label, &key, &length, &kind)) {
        column->label = NULL;
        return 0;
    }
    Py_INCREF(column->label);
    if (kind < 0 || kind >= KINDS) {
        PyErr_SetString(PyExc_ValueError, "a kind is not known");
        return 0;
    }
    column->kind = (Kind)kind;
    column->length = (size_t)length;
    column->name = malloc((size_t)length + 1);
    if (column->name == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    memcpy(column->name, key, (size_t)length);
    return 1;
}

static PyObject *
builder_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *columns;
    if (keywords && PyDict_Size(keywords)) {
        PyErr_SetString(PyExc_TypeError, "Builder takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!", &PyTuple_Type, &columns))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Builder *self = (Builder *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_Size(columns);
    self->columns = calloc((size_t)count + 1, sizeof *self->columns);
    if (self->columns == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        self->count = i + 1; /* what `builder_dealloc` looks at */
        if (!read_column(&self->columns[i], PyTuple_GetItem(columns, i))) {
            Py_DECREF(self);
            return NULL;
        }
        self->columns[i].next = &self->columns[i + 1 < count ? i + 1 : 0];
    }
    if (!begin(self)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef METHODS[] = {
    {"append", (PyCFunction)builder_append, METH_O, append_doc},
    {"finish", (PyCFunction)builder_finish, METH_NOARGS, finish_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(builder_doc, "Builder(columns)\n--\n\nCollects records as Arrow columns.\n\n`columns` has for "
                          "each its name, its name as it is in the lines, between quotes, and its kind.");

static PyType_Slot SLOTS[] = {
    {Py_tp_new, (void *)builder_new},
    {Py_tp_dealloc, (void *)builder_dealloc},
    {Py_tp_methods, METHODS},
    {Py_tp_doc, (void *)builder_doc},
    {0, NULL},
};

static PyType_Spec SPEC = {
    "tap_fullstory.output._columns.Builder", sizeof(Builder), 0, Py_TPFLAGS_DEFAULT, SLOTS,
};

static int
execute(PyObject *module)
{
    static const struct {
        const char *name;
        int value;
    } constants[] = {
        {"INT64", INT64},         {"FLOAT64", FLOAT64}, {"BOOL", BOOL},
        {"TIMESTAMP", TIMESTAMP}, {"STRING", STRING},   {"JSON_TEXT", JSON_TEXT},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &SPEC, NULL);
    if (type == NULL)
        return -1;
    int added = PyModule_AddObjectRef(module, "Builder", type);
    Py_DECREF(type);
    return added;
}

static PyModuleDef_Slot MODULE_SLOTS[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_columns", "Arrow columns from record lines.", 0, NULL, MODULE_SLOTS,
    NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__columns(void)
{
    return PyModuleDef_Init(&MODULE);
}
