/* Fill Arrow's columns from record lines, in one pass over their bytes.

   The lines are those that either encoder has written: each is one JSON object, valid, without line
   breaks inside, with every key once. Strings are valid UTF-8 and escapes are valid; this is not
   verified again. What the buffers depend on is: no read goes past the end of the lines, and a value
   whose type is not its column's raises ValueError.

   Keys are predicted: after a key usually comes the one that came after it last time.

   Rows are allocated for all columns at once, and zeroed. A row that a line does not set is null:
   its bit of the validity bitmap is 0. Only the offsets of text have to be written for nulls, too.

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
    MAX_SAFE_DIGITS = 18,         /* any number of so many is an int64 */
    MIN_ROWS = 1024,              /* of the first allocation */
    WORD_BYTES = 8,
    MAX_REPEATED_BYTES = 40,      /* of a date-time that is remembered */
    SLICE_BYTES = 1 << 20,        /* of a value, between two checks for signals */
};

typedef const unsigned char *Text;

typedef struct {
    unsigned char *bytes;
    size_t length;
    size_t capacity;
} Buffer;

typedef struct Column {
    char *key; /* as it is in the lines, with its quotes and the colon */
    size_t length;
    PyObject *label; /* the name */
    Kind kind;
    unsigned char *validity; /* a bit for each row: 1 if it is not null */
    unsigned char *values;   /* of INT64, FLOAT64, BOOL and TIMESTAMP */
    int32_t *offsets;        /* of STRING and JSON_TEXT: where each row begins in `text`, and the end */
    Buffer text;
    int64_t rows; /* up to the last one that a line had a value or null for */
    int64_t valid;
    unsigned char repeated[MAX_REPEATED_BYTES]; /* the last date-time, which many rows repeat */
    size_t repeated_length;
    int64_t repeated_value;
    struct Column *next; /* the column that came after it last time */
} Column;

typedef struct {
    PyObject_HEAD
    Column *columns;
    Py_ssize_t count;
    int64_t rows;
    int64_t capacity; /* of rows, in all columns */
    int64_t expected; /* the capacity that was needed last time */
} Builder;

/* --- rows --- */

static int
has_text(Kind kind)
{
    return kind == STRING || kind == JSON_TEXT;
}

/* Return `bytes` with room for `length`, zero from `old_length` on; NULL if memory runs out. */
static void *
grown(void *bytes, size_t old_length, size_t length)
{
    if (bytes == NULL)
        return calloc(1, length);
    unsigned char *moved = realloc(bytes, length);
    if (moved)
        memset(moved + old_length, 0, length - old_length);
    return moved;
}

/* Make room for more rows in all columns. */
static int
grow_rows(Builder *self)
{
    int64_t old = self->capacity, rows = old ? 2 * old : self->expected;
    if (rows > INT64_MAX / 32) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Column *column = &self->columns[i];
        void *validity = grown(column->validity, (size_t)old / 8, (size_t)rows / 8);
        if (validity)
            column->validity = validity;
        void *values = NULL;
        if (has_text(column->kind)) {
            size_t old_length = old ? (size_t)(old + 1) * sizeof(int32_t) : 0;
            values = grown(column->offsets, old_length, (size_t)(rows + 1) * sizeof(int32_t));
            if (values)
                column->offsets = values;
        }
        else {
            size_t bits = column->kind == BOOL ? 1 : 64;
            values = grown(column->values, (size_t)old * bits / 8, (size_t)rows * bits / 8);
            if (values)
                column->values = values;
        }
        if (validity == NULL || values == NULL) {
            PyErr_NoMemory();
            return 0;
        }
    }
    self->capacity = rows;
    return 1;
}

/* Say of a text column where its rows before number `row` end that no line has set. */
static inline void
fill_offsets(Column *column, int64_t row)
{
    for (int64_t i = column->rows; i < row; i++)
        column->offsets[i + 1] = (int32_t)column->text.length;
}

static inline void
set_valid(Column *column, int64_t row)
{
    column->validity[row / 8] |= (unsigned char)(1 << (row % 8));
    column->valid++;
}

static inline Text
set_int64(Column *column, int64_t row, int64_t value, Text after)
{
    memcpy(column->values + row * (int64_t)sizeof value, &value, sizeof value);
    return after;
}

static Text
not_of(Column *column)
{
    PyErr_Format(PyExc_ValueError, "a value of the column %R is of another type", column->label);
    return NULL;
}

/* --- text --- */

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

/* Make room for `more` bytes; 0 if memory runs out, or the column would have too many. */
static inline int
reserve(Buffer *buffer, size_t more)
{
    size_t needed = buffer->length + more;
    if (needed <= buffer->capacity)
        return 1;
    if (needed > MAX_COLUMN_BYTES) {
        PyErr_SetString(PyExc_OverflowError, "a column holds more than 2 GB of text");
        return 0;
    }
    return grow(buffer, needed);
}

static inline int
append(Buffer *buffer, Text from, size_t length)
{
    if (!reserve(buffer, length))
        return 0;
    if (length)
        memcpy(buffer->bytes + buffer->length, from, length);
    buffer->length += length;
    return 1;
}

#define ONES ((uint64_t)0x0101010101010101u)
#define HIGH_BITS (ONES * 0x80)

/* Has the highest bit set of the first byte that is `c`, and perhaps of later bytes; 0 if there is
   none. */
static inline uint64_t
find_byte(uint64_t word, unsigned char c)
{
    uint64_t zero = word ^ (ONES * c);
    return (zero - ONES) & ~zero & HIGH_BITS;
}

/* Return where the first quote or backslash is from `at` on; `end` if there is none. */
static inline Text
find_quote_or_backslash(Text at, Text end)
{
    while (end - at >= WORD_BYTES) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        uint64_t found = find_byte(word, '"') | find_byte(word, '\\');
        if (found) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return at + __builtin_ctzll(found) / 8;
#else
            break;
#endif
        }
        at += sizeof word;
    }
    while (at < end && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* Return the place after the string that begins at `at`; NULL if it has no end. `has_escapes` becomes
   1 if there are any. */
static inline Text
string_end(Text at, Text end, int *has_escapes)
{
    for (at++;;) {
        at = find_quote_or_backslash(at, end);
        if (at == end)
            return NULL;
        if (*at == '"')
            return at + 1;
        *has_escapes = 1;
        if (end - at < 2)
            return NULL;
        at += 2;
    }
}

/* --- values: each function appends the one that begins at `at`, and returns the place after it; NULL
   with an exception set if it is of another type --- */

static inline Text
append_int64(Column *column, int64_t row, Text at, Text end)
{
    int negative = *at == '-';
    at += negative;
    Text start = at;
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + (uint64_t)negative;
    for (; at < end; at++) {
        unsigned digit = *at - (unsigned)'0';
        if (digit > 9)
            break;
        if (at - start >= MAX_SAFE_DIGITS && value > (limit - digit) / 10)
            return not_of(column);
        value = value * 10 + digit;
    }
    if (at == start)
        return not_of(column);
    return set_int64(column, row, (int64_t)(negative ? 0 - value : value), at);
}

/* Return the place after a number, or after what is in its place. */
static Text
number_end(Text at, Text end)
{
    while (at < end && ((*at >= '0' && *at <= '9') || (*at && strchr("+-.eE", *at))))
        at++;
    return at;
}

static Text
append_float64(Column *column, int64_t row, Text start, Text end)
{
    /* Up to 15 digits and 22 places: both are exact as doubles, and so is the one division. */
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    Text after = number_end(start, end), at = start;
    int negative = *at == '-', places = 0, digits = 0, in_fraction = 0;
    int64_t mantissa = 0;
    at += negative;
    for (; at < after && digits <= 15; at++) {
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
    if (at == after && digits && digits <= 15) {
        number = (double)mantissa / powers[places];
        number = negative ? -number : number;
    }
    else {
        char text[MAX_NUMBER_BYTES + 1], *rest;
        size_t length = (size_t)(after - start);
        if (length > MAX_NUMBER_BYTES)
            return not_of(column);
        memcpy(text, start, length);
        text[length] = 0;
        number = PyOS_string_to_double(text, &rest, NULL); /* beyond a double: infinite */
        if (number == -1.0 && PyErr_Occurred()) {
            PyErr_Clear();
            return not_of(column);
        }
        if (rest != text + length)
            return not_of(column);
    }
    memcpy(column->values + row * (int64_t)sizeof number, &number, sizeof number);
    return after;
}

static Text
append_bool(Column *column, int64_t row, Text at, Text end)
{
    if (end - at >= 4 && memcmp(at, "true", 4) == 0) {
        column->values[row / 8] |= (unsigned char)(1 << (row % 8));
        return at + 4;
    }
    return end - at >= 5 && memcmp(at, "false", 5) == 0 ? at + 5 : not_of(column);
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

/* Read an RFC 3339 date-time without its quotes, as microseconds since 1970; 0 if it is none. */
static int
read_timestamp(Text at, Text end, int64_t *value)
{
    if (end - at < 20)
        return 0;
    int year = digits_at(at, 4), month = digits_at(at + 5, 2), day = digits_at(at + 8, 2);
    int hour = digits_at(at + 11, 2), minute = digits_at(at + 14, 2), second = digits_at(at + 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || minute < 0 ||
        second < 0)
        return 0;
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
            return 0;
        int hours = digits_at(at + 1, 2), minutes = digits_at(at + 4, 2);
        if (hours < 0 || minutes < 0)
            return 0;
        offset = (hours * 60 + minutes) * (*at == '-' ? -60 : 60);
    }
    else if (end - at != 1)
        return 0;
    int64_t seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    *value = (seconds - offset) * 1000000 + micros;
    return 1;
}

static Text
append_timestamp(Column *column, int64_t row, Text at, Text end)
{
    size_t length = column->repeated_length;
    if ((size_t)(end - at) > length && length && memcmp(at, column->repeated, length) == 0)
        return set_int64(column, row, column->repeated_value, at + length);
    int has_escapes = 0;
    Text after = *at == '"' ? string_end(at, end, &has_escapes) : NULL;
    int64_t value;
    if (after == NULL || !read_timestamp(at + 1, after - 1, &value))
        return not_of(column);
    length = (size_t)(after - at);
    if (length <= MAX_REPEATED_BYTES) {
        memcpy(column->repeated, at, length);
        column->repeated_length = length;
        column->repeated_value = value;
    }
    return set_int64(column, row, value, after);
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

/* Append what is between the quotes of a string, without its escapes. It is never longer than its
   JSON. */
static Text
append_escaped(Column *column, Text at, Text end)
{
    Text after = end + 1;
    Buffer *buffer = &column->text;
    if (!reserve(buffer, (size_t)(end - at)))
        return NULL;
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
    return after;
}

static inline Text
append_string(Column *column, Text at, Text end)
{
    if (*at != '"')
        return not_of(column);
    int has_escapes = 0;
    Text after = string_end(at, end, &has_escapes);
    if (after == NULL)
        return not_of(column);
    if (has_escapes)
        return append_escaped(column, at + 1, after - 1);
    return append(&column->text, at + 1, (size_t)(after - at) - 2) ? after : NULL;
}

/* Return the place after the object or array that begins at `at`; NULL if it has no end, or with an
   exception set if a handler of a signal raises. */
static Text
nested_end(Text at, Text end)
{
    int64_t depth = 0;
    int has_escapes = 0;
    for (Text slice = at; at < end;) {
        if (at - slice >= SLICE_BYTES) {
            slice = at;
            if (PyErr_CheckSignals() < 0)
                return NULL;
        }
        if (*at == '"') {
            if ((at = string_end(at, end, &has_escapes)) == NULL)
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

static Text
append_json_text(Column *column, Text at, Text end)
{
    int has_escapes = 0;
    Text after;
    if (*at == '"')
        after = string_end(at, end, &has_escapes);
    else if (*at == '{' || *at == '[')
        after = nested_end(at, end);
    else
        for (after = at; after < end && *after && !strchr(",} \t\r\n", *after);)
            after++;
    if (after == NULL)
        return PyErr_Occurred() ? NULL : not_of(column);
    return append(&column->text, at, (size_t)(after - at)) ? after : NULL;
}

/* Append the value of any type that begins at `at`, in the builder's current row. */
static inline Text
append_value(Column *column, int64_t row, Text at, Text end)
{
    if (has_text(column->kind))
        fill_offsets(column, row);
    int is_null = end - at >= 4 && memcmp(at, "null", 4) == 0;
    if (is_null)
        at += 4;
    else {
        switch (column->kind) {
        case INT64: at = append_int64(column, row, at, end); break;
        case FLOAT64: at = append_float64(column, row, at, end); break;
        case BOOL: at = append_bool(column, row, at, end); break;
        case TIMESTAMP: at = append_timestamp(column, row, at, end); break;
        case STRING: at = append_string(column, at, end); break;
        case JSON_TEXT: at = append_json_text(column, at, end); break;
        case KINDS: break;
        }
        if (at == NULL)
            return NULL;
        set_valid(column, row);
    }
    if (has_text(column->kind))
        column->offsets[row + 1] = (int32_t)column->text.length;
    column->rows = row + 1;
    return at;
}

/* --- lines --- */

static inline Text
skip_whitespace(Text at, Text end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
        at++;
    return at;
}

/* Whether two texts of `length` bytes are the same. Inline, since names are short. */
static inline int
is_same(Text a, const char *b, size_t length)
{
    uint64_t x, y;
    if (length < WORD_BYTES)
        return memcmp(a, b, length) == 0;
    for (size_t i = 0; i + WORD_BYTES < length; i += WORD_BYTES) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        if (x != y)
            return 0;
    }
    memcpy(&x, a + length - WORD_BYTES, sizeof x);
    memcpy(&y, b + length - WORD_BYTES, sizeof y);
    return x == y;
}

/* Return the column of the key at `at`, whose `length` bytes include its quotes; NULL if there is none.
   The search begins with the predicted one, which is usually a few columns before the right one. */
static Column *
column_of(Builder *self, Column *predicted, Text at, size_t length)
{
    Column *column = predicted, *last = self->columns + self->count;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        if (column->length == length + 1 && is_same(at, column->key, length))
            return column;
        if (++column == last)
            column = self->columns;
    }
    return NULL;
}

/* Read the key that begins at `at`, and the colon after it. Return its column; NULL if there is
   none. */
static inline Column *
read_key(Builder *self, Column *predicted, Text *at, Text end)
{
    if (predicted->length <= (size_t)(end - *at) && is_same(*at, predicted->key, predicted->length)) {
        *at += predicted->length;
        return predicted;
    }
    int has_escapes = 0;
    Text after = string_end(*at, end, &has_escapes);
    if (after == NULL)
        return NULL;
    Column *column = column_of(self, predicted, *at, (size_t)(after - *at));
    after = skip_whitespace(after, end);
    if (after == end || *after != ':')
        return NULL;
    *at = after + 1;
    return column;
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
    int64_t row = self->rows;
    if (row == self->capacity && !grow_rows(self))
        return NULL;
    at = skip_whitespace(at, end);
    if (at == end || *at != '{')
        return malformed();
    at = skip_whitespace(at + 1, end);
    Column *last = NULL;
    while (at < end && *at == '"' && self->count) {
        Column *column = read_key(self, last ? last->next : self->columns, &at, end);
        if (column == NULL || column->rows > row) /* or a key that is there twice */
            return malformed();
        at = skip_whitespace(at, end);
        if (at == end)
            return malformed();
        if ((at = append_value(column, row, at, end)) == NULL)
            return NULL;
        if (last)
            last->next = column;
        last = column;
        at = skip_whitespace(at, end);
        if (at == end || (*at != ',' && *at != '}'))
            return malformed();
        if (*at == ',')
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

/* Return a schema with room for `children`; NULL if memory runs out. */
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

/* Move what a pointer leads to out of it. Nothing becomes a place that can be read. */
static void *
take(void **from)
{
    void *bytes = *from ? *from : calloc(1, 8);
    *from = NULL;
    return bytes;
}

static int
hand_over(Column *column, int64_t rows, struct ArrowSchema *schema, struct ArrowArray *array)
{
    int64_t buffers = has_text(column->kind) ? 3 : 2;
    const char *name = PyUnicode_AsUTF8AndSize(column->label, NULL);
    if (name == NULL)
        return 0;
    struct ArrowSchema *field = new_schema(FORMATS[column->kind], name, 0);
    struct ArrowArray *values = new_array(rows, buffers, 0);
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
    values->null_count = rows - column->valid;
    values->buffers[0] = take((void **)&column->validity);
    if (has_text(column->kind)) {
        values->buffers[1] = take((void **)&column->offsets);
        values->buffers[2] = take((void **)&column->text.bytes);
        column->text = (Buffer){0};
    }
    else
        values->buffers[1] = take((void **)&column->values);
    schema->children[schema->n_children++] = field;
    array->children[array->n_children++] = values;
    column->rows = column->valid = 0;
    for (int64_t i = 0; i < buffers; i++) {
        if (values->buffers[i] == NULL) {
            PyErr_NoMemory();
            return 0;
        }
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
        if (has_text(self->columns[i].kind))
            fill_offsets(&self->columns[i], self->rows);
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
        complete = hand_over(&self->columns[i], self->rows, schema, array);
    self->expected = self->capacity > MIN_ROWS ? self->capacity : MIN_ROWS;
    self->rows = self->capacity = 0;
    if (!complete)
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
        free(column->key);
        Py_XDECREF(column->label);
        free(column->validity);
        free(column->values);
        free(column->offsets);
        free(column->text.bytes);
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
    column->length = (size_t)length + 3; /* two quotes and a colon */
    column->key = malloc(column->length);
    if (column->key == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    column->key[0] = '"';
    memcpy(column->key + 1, key, (size_t)length);
    memcpy(column->key + 1 + length, "\":", 2);
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
        self->count = i + 1; /* columns that `builder_dealloc` has to free */
        if (!read_column(&self->columns[i], PyTuple_GetItem(columns, i))) {
            Py_DECREF(self);
            return NULL;
        }
        self->columns[i].next = &self->columns[i + 1 < count ? i + 1 : 0];
    }
    self->expected = MIN_ROWS;
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
