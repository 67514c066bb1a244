/* Runs of events to RECORD lines, in one pass over their bytes.

   The rules are those of records.py, which says what is right; this file only does the usual case
   quickly. What it writes is proven on the way: it has read every byte of an event as JSON (RFC
   8259), seen every string to be UTF-8 without half a surrogate pair, every value to be of its
   column's type, and every key once. An event in which anything else turns up is handed to
   Python by itself; a run that is broken is handed back whole, and Python says what is wrong
   with it.

   Bytes go out as they came. A record is made of the spans of its event that are kept, without
   line breaks, and of CustomVars, where unknown keys are gathered. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef const unsigned char *Text;

/* What a value may be, by its first character; native.py has the same numbers. */
enum {
    STRING = 1,
    NUMBER = 2,
    INTEGER = 4, /* a number without fraction or exponent; what else equals one is for Python */
    BOOLEAN = 8,
    NULL_VALUE = 16,
    ARRAY = 32,
    OBJECT = 64,
    DATE_TIME = 128, /* its strings are RFC 3339 date-times, or empty where null is allowed */
    ITEMS = 256,     /* its arrays hold what `items` says */
    ANYTHING = STRING | NUMBER | BOOLEAN | NULL_VALUE | ARRAY | OBJECT
};

typedef enum { KEPT, DROPPED, UNKNOWN } Role;
typedef enum { FITS, BECOMES_NULL, FOR_PYTHON, BROKEN } Fit;

typedef struct Key {
    char *name; /* as it stands between quotes: UTF-8 without escapes */
    size_t length;
    uint32_t hash;
    Role role;
    int types;
    int items;
    uint64_t last_event; /* the last one that had it, to see a key that stands twice */
    Py_ssize_t count;    /* of events in this run, if the key is unknown */
    struct Key *next;    /* the key that came after it the last time */
} Key;

typedef struct {
    char *bytes;
    size_t length;
    size_t capacity;
} Buffer;

typedef struct {
    PyObject_HEAD
    Key **table; /* open addressing; `slots` is a power of two */
    size_t slots;
    size_t keys;
    size_t learned;
    int wants_custom_vars;
    int custom_vars_as_text;
    Buffer out;
    Buffer custom;
    Buffer unknown; /* Key *: the unknown keys of the event in hand */
    Buffer counted; /* Key *: those of the run */
    uint64_t event;
    int line_breaks; /* whether the event in hand has any between its tokens */
    int busy;        /* a run is in hand, while `plain` may do anything */
} Scanner;

/* Keys are never forgotten. Events with keys beyond these go to Python. */
static const size_t MAX_LEARNED = 10000;
static const size_t MAX_LEARNED_BYTES = 1000; /* of one key */
static const int MAX_DEPTH = 100;             /* of values inside a value; Python tells the rest */
static const size_t KEPT_BYTES = 1 << 20;     /* of a buffer, between two runs */

/* --- buffers --- */

static int
reserve(Buffer *buffer, size_t more)
{
    size_t needed = buffer->length + more;
    if (needed < buffer->capacity) /* not <=: `bytes` is never NULL after this, even for nothing */
        return 1;
    size_t capacity = 2 * buffer->capacity;
    if (capacity < needed + 4096)
        capacity = needed + 4096;
    char *bytes = PyMem_Realloc(buffer->bytes, capacity);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return 1;
}

static int
append(Buffer *buffer, const void *bytes, size_t length)
{
    if (!reserve(buffer, length))
        return 0;
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    return 1;
}

static void
release(Buffer *buffer)
{
    PyMem_Free(buffer->bytes);
    memset(buffer, 0, sizeof *buffer);
}

/* --- keys --- */

static uint32_t
hash_of(Text name, size_t length)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ name[i]) * 16777619u;
    return hash;
}

static Key **
slot_of(Scanner *self, Text name, size_t length, uint32_t hash)
{
    size_t at = hash & (self->slots - 1);
    for (; self->table[at] != NULL; at = (at + 1) & (self->slots - 1)) {
        Key *key = self->table[at];
        if (key->hash == hash && key->length == length && !memcmp(key->name, name, length))
            break;
    }
    return &self->table[at];
}

static int
grow(Scanner *self)
{
    Key **old = self->table;
    size_t old_slots = self->slots;
    size_t slots = old_slots ? 2 * old_slots : 256;
    Key **table = PyMem_Calloc(slots, sizeof *table);
    if (table == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    self->table = table;
    self->slots = slots;
    for (size_t at = 0; at < old_slots; at++)
        if (old[at] != NULL)
            *slot_of(self, (Text)old[at]->name, old[at]->length, old[at]->hash) = old[at];
    PyMem_Free(old);
    return 1;
}

static Key *
add_key(Scanner *self, Text name, size_t length, Role role, int types, int items)
{
    if (2 * (self->keys + 1) > self->slots && !grow(self))
        return NULL;
    Key *key = PyMem_Calloc(1, sizeof *key);
    char *copy = PyMem_Malloc(length ? length : 1);
    if (key == NULL || copy == NULL) {
        PyMem_Free(key);
        PyMem_Free(copy);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(copy, name, length);
    key->name = copy;
    key->length = length;
    key->hash = hash_of(name, length);
    key->role = role;
    key->types = types;
    key->items = items;
    *slot_of(self, name, length, key->hash) = key;
    self->keys++;
    return key;
}

/* --- JSON --- */

static inline Text
skip_blanks(Scanner *self, Text at, Text end)
{
    for (; at < end; at++) {
        if (*at == '\n' || *at == '\r')
            self->line_breaks = 1;
        else if (*at != ' ' && *at != '\t')
            break;
    }
    return at;
}

static inline int
is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* The value of four hexadecimal digits, or -1. */
static int
hex4(Text at, Text end)
{
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = at[i], lower = c | 0x20;
        if (is_digit(c))
            value = 16 * value + (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = 16 * value + (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* After an escape that begins at `at`; NULL if it is none, or half a surrogate pair. */
static Text
escape_end(Text at, Text end)
{
    if (end - at < 2)
        return NULL;
    if (at[1] != 'u')
        return at[1] && strchr("\"\\/bfnrt", at[1]) ? at + 2 : NULL;
    int unit = hex4(at + 2, end);
    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
        return NULL;
    at += 6;
    if (unit < 0xD800 || unit > 0xDBFF)
        return at;
    if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
        return NULL;
    unit = hex4(at + 2, end);
    return unit >= 0xDC00 && unit <= 0xDFFF ? at + 6 : NULL;
}

/* After a character of two to four bytes; NULL if it is no UTF-8 (RFC 3629, section 4). */
static Text
character_end(Text at, Text end)
{
    unsigned char c = at[0];
    unsigned char least = 0x80, most = 0xBF; /* of the second byte */
    int more;
    if (c >= 0xC2 && c <= 0xDF)
        more = 1;
    else if (c >= 0xE0 && c <= 0xEF) {
        more = 2;
        if (c == 0xE0)
            least = 0xA0;
        else if (c == 0xED)
            most = 0x9F;
    }
    else if (c >= 0xF0 && c <= 0xF4) {
        more = 3;
        if (c == 0xF0)
            least = 0x90;
        else if (c == 0xF4)
            most = 0x8F;
    }
    else
        return NULL;
    if (end - at <= more || at[1] < least || at[1] > most)
        return NULL;
    for (int i = 2; i <= more; i++)
        if ((at[i] & 0xC0) != 0x80)
            return NULL;
    return at + more + 1;
}

/* After a string whose first character is at `at`, and its closing quote; NULL if it is broken. */
static inline Text
string_end(Text at, Text end)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    for (;;) {
        /* Eight bytes at once, while none of them is a quote, a backslash, a control character or
           beyond ASCII. (x - ones) & ~x has a high bit where the lowest byte of x is zero. */
        while (end - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
            uint64_t special = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)
                | ((word - ones * 0x20) & ~word) | word;
            if (special & highs)
                break;
            at += 8;
        }
        while (at < end && *at != '"' && *at != '\\' && *at >= 0x20 && *at < 0x80)
            at++;
        if (at == end || *at < 0x20)
            return NULL;
        if (*at == '"')
            return at + 1;
        at = *at == '\\' ? escape_end(at, end) : character_end(at, end);
        if (at == NULL)
            return NULL;
    }
}

/* After a number; NULL if it is none. */
static inline Text
number_end(Text at, Text end, int *is_integer)
{
    *is_integer = 1;
    if (at < end && *at == '-')
        at++;
    if (at == end || !is_digit(*at))
        return NULL;
    if (*at++ != '0')
        while (at < end && is_digit(*at))
            at++;
    if (at < end && *at == '.') {
        *is_integer = 0;
        at++;
        if (at == end || !is_digit(*at))
            return NULL;
        while (at < end && is_digit(*at))
            at++;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        *is_integer = 0;
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        if (at == end || !is_digit(*at))
            return NULL;
        while (at < end && is_digit(*at))
            at++;
    }
    return at;
}

static inline Text
literal_end(Text at, Text end, const char *literal, size_t length)
{
    return (size_t)(end - at) >= length && !memcmp(at, literal, length) ? at + length : NULL;
}

/* After a value of any kind; NULL if it is broken, or too deep. */
static Text
value_end(Scanner *self, Text at, Text end, int depth)
{
    int is_integer;
    if (at == end)
        return NULL;
    switch (*at) {
    case '"':
        return string_end(at + 1, end);
    case 't':
        return literal_end(at, end, "true", 4);
    case 'f':
        return literal_end(at, end, "false", 5);
    case 'n':
        return literal_end(at, end, "null", 4);
    case '{':
    case '[':
        break;
    default:
        return number_end(at, end, &is_integer);
    }
    unsigned char opening = *at, closing = opening == '{' ? '}' : ']';
    if (depth == MAX_DEPTH)
        return NULL;
    at = skip_blanks(self, at + 1, end);
    if (at < end && *at == closing)
        return at + 1;
    for (;;) {
        if (opening == '{') {
            if (at == end || *at != '"' || (at = string_end(at + 1, end)) == NULL)
                return NULL;
            at = skip_blanks(self, at, end);
            if (at == end || *at != ':')
                return NULL;
            at = skip_blanks(self, at + 1, end);
        }
        if ((at = value_end(self, at, end, depth + 1)) == NULL)
            return NULL;
        at = skip_blanks(self, at, end);
        if (at == end)
            return NULL;
        if (*at == closing)
            return at + 1;
        if (*at != ',')
            return NULL;
        at = skip_blanks(self, at + 1, end);
    }
}

/* --- values against their column --- */

/* The number that so many digits make, or -1. */
static int
digits(Text at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(at[i]))
            return -1;
        value = 10 * value + (at[i] - '0');
    }
    return value;
}

/* As times.is_rfc3339, for text without escapes. */
static int
is_date_time(Text at, size_t length)
{
    static const unsigned char days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    Text end = at + length;
    if (length < 20)
        return 0;
    int year = digits(at, 4), month = digits(at + 5, 2), day = digits(at + 8, 2);
    int hour = digits(at + 11, 2), minute = digits(at + 14, 2), second = digits(at + 17, 2);
    if (at[4] != '-' || at[7] != '-' || (at[10] | 0x20) != 't' || at[13] != ':' || at[16] != ':')
        return 0;
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > days[month - 1])
        return 0;
    if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
        return 0;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return 0;
    at += 19;
    if (*at == '.') {
        Text fraction = ++at;
        while (at < end && is_digit(*at))
            at++;
        if (at == fraction)
            return 0;
    }
    if (end - at == 1)
        return (*at | 0x20) == 'z';
    if (end - at != 6 || (*at != '+' && *at != '-') || at[3] != ':')
        return 0;
    hour = digits(at + 1, 2);
    minute = digits(at + 4, 2);
    return hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59;
}

/* The type of a value that begins with `c`; NUMBER also if there is no such value. */
static inline int
type_of(unsigned char c)
{
    switch (c) {
    case '"':
        return STRING;
    case 't':
    case 'f':
        return BOOLEAN;
    case 'n':
        return NULL_VALUE;
    case '{':
        return OBJECT;
    case '[':
        return ARRAY;
    default:
        return NUMBER;
    }
}

/* Whether the value at `*at` is one of `types`, as it stands, whatever its items are; `*at` goes to
   its end, unless it is broken. */
static inline Fit
fit_value(Scanner *self, Text *at, Text end, int types)
{
    Text start = *at;
    if (start == end)
        return BROKEN;
    int type = type_of(*start), is_integer;
    if (type == NUMBER) {
        if ((*at = number_end(start, end, &is_integer)) == NULL)
            return BROKEN;
        return types & NUMBER || (types & INTEGER && is_integer) ? FITS : FOR_PYTHON;
    }
    *at = type == STRING ? string_end(start + 1, end) : value_end(self, start, end, 0);
    if (*at == NULL)
        return BROKEN;
    if (!(types & type))
        return FOR_PYTHON;
    size_t length = *at - start;
    if (type == STRING && types & DATE_TIME && !is_date_time(start + 1, length - 2))
        return length == 2 && types & NULL_VALUE ? BECOMES_NULL : FOR_PYTHON;
    return FITS;
}

/* As fit_value, for an array all of whose items have to be one of `types`. */
static Fit
fit_items(Scanner *self, Text *at, Text end, int types)
{
    Fit worst = FITS;
    Text item = skip_blanks(self, *at + 1, end);
    if (item < end && *item == ']') {
        *at = item + 1;
        return FITS;
    }
    for (;;) {
        Fit fit = fit_value(self, &item, end, types);
        if (fit == BROKEN)
            return BROKEN;
        if (fit != FITS)
            worst = FOR_PYTHON;
        item = skip_blanks(self, item, end);
        if (item == end || (*item != ']' && *item != ','))
            return BROKEN;
        if (*item++ == ']') {
            *at = item;
            return worst;
        }
        item = skip_blanks(self, item, end);
    }
}

/* What becomes of a member's value; `*at` goes to its end, unless it is broken. */
static inline Fit
fit_member(Scanner *self, Text *at, Text end, const Key *key)
{
    if (key == NULL || key->role != KEPT)
        return (*at = value_end(self, *at, end, 0)) == NULL ? BROKEN : FITS;
    if (key->types & ITEMS && key->types & ARRAY && *at < end && **at == '[')
        return fit_items(self, at, end, key->items);
    return fit_value(self, at, end, key->types);
}

/* --- records --- */

/* Write members of a record, with what parts them; none if `from` is NULL. */
static int
append_members(Buffer *out, Text from, Text to, size_t record)
{
    if (from == NULL)
        return 1;
    return (out->length == record + 1 || append(out, ",", 1)) && append(out, from, to - from);
}

/* CustomVars as one JSON string; `custom` holds the members of the object. */
static int
append_as_text(Buffer *out, const Buffer *custom)
{
    if (!reserve(out, 2 * custom->length + 6))
        return 0;
    char *to = out->bytes + out->length;
    *to++ = '"';
    *to++ = '{';
    for (size_t i = 0; i < custom->length; i++) {
        char c = custom->bytes[i];
        if (c == '"' || c == '\\')
            *to++ = '\\';
        else if (c == '\n' || c == '\r')
            continue;
        else if (c == '\t') {
            *to++ = '\\';
            c = 't';
        }
        *to++ = c;
    }
    *to++ = '}';
    *to++ = '"';
    out->length = to - out->bytes;
    return 1;
}

static int
append_custom_vars(Scanner *self, size_t record)
{
    Buffer *out = &self->out, *custom = &self->custom;
    static const char name[] = "\"CustomVars\":";
    if (custom->length == 0)
        return 1;
    if (!append_members(out, (Text)name, (Text)name + sizeof name - 1, record))
        return 0;
    if (self->custom_vars_as_text)
        return append_as_text(out, custom);
    return append(out, "{", 1) && append(out, custom->bytes, custom->length)
        && append(out, "}", 1);
}

/* Write the record that Python makes of an event. 0 with an exception set, or with `*broken`, if it
   makes none. */
static int
append_from_python(Scanner *self, PyObject *plain, Text start, Text end, int *broken)
{
    PyObject *record = PyObject_CallFunction(plain, "y#", start, (Py_ssize_t)(end - start));
    if (record == NULL)
        return 0;
    char *bytes;
    Py_ssize_t length;
    *broken = record == Py_None;
    int done = !*broken && PyBytes_AsStringAndSize(record, &bytes, &length) == 0
        && append(&self->out, bytes, length);
    Py_DECREF(record);
    return done;
}

static void
remove_line_breaks(Buffer *out, size_t from)
{
    char *to = out->bytes + from;
    for (size_t i = from; i < out->length; i++)
        if (out->bytes[i] != '\n' && out->bytes[i] != '\r')
            *to++ = out->bytes[i];
    out->length = to - out->bytes;
}

/* After a key whose first character is at `name`, and its closing quote; NULL if it is broken, or
   with an exception set. `*found` is NULL if the key is for Python; `before` is the last one. */
static inline Text
key_end(Scanner *self, Text name, Text end, Key *before, Key **found)
{
    Key *key = before == NULL ? NULL : before->next;
    if (key != NULL && (size_t)(end - name) > key->length && name[key->length] == '"'
        && !memcmp(name, key->name, key->length)) {
        *found = key;
        return name + key->length + 1;
    }
    *found = NULL;
    Text name_end = string_end(name, end);
    if (name_end == NULL)
        return NULL;
    size_t length = name_end - 1 - name;
    if (memchr(name, '\\', length) != NULL)
        return name_end;
    key = *slot_of(self, name, length, hash_of(name, length));
    if (key == NULL && self->learned < MAX_LEARNED && length <= MAX_LEARNED_BYTES) {
        if ((key = add_key(self, name, length, UNKNOWN, ANYTHING, 0)) == NULL)
            return NULL;
        self->learned++;
    }
    if (before != NULL && key != NULL)
        before->next = key;
    *found = key;
    return name_end;
}

/* Take an unknown key, quotes and all, and its value for CustomVars. */
static int
append_unknown(Scanner *self, Key *key, Text name, Text name_end, Text value, Text value_end)
{
    Buffer *custom = &self->custom;
    if (!append(&self->unknown, &key, sizeof key))
        return 0;
    if (!self->wants_custom_vars)
        return 1;
    return (custom->length == 0 || append(custom, ",", 1))
        && append(custom, name, name_end - name) && append(custom, ":", 1)
        && append(custom, value, value_end - value);
}

/* The key at a place in `unknown` or `counted`. */
static Key *
key_at(const Buffer *keys, size_t at)
{
    Key *key;
    memcpy(&key, keys->bytes + at, sizeof key);
    return key;
}

/* Count the unknown keys of the event in hand. */
static int
count_unknown(Scanner *self)
{
    for (size_t at = 0; at < self->unknown.length; at += sizeof(Key *)) {
        Key *key = key_at(&self->unknown, at);
        if (key->count == 0 && !append(&self->counted, &key, sizeof key))
            return 0;
        key->count++;
    }
    return 1;
}

/* Write the record of the event whose `{` is at `*start`, and go to its end. 0 with an exception
   set, or with `*broken`, if there is none. */
static int
append_record(Scanner *self, Text *start, Text end, PyObject *plain, int *broken)
{
    Buffer *out = &self->out;
    size_t record = out->length;
    Text span = NULL, span_end = NULL; /* members to keep, with what parts them */
    Key *key = NULL;
    int for_python = 0;

    self->event++;
    self->line_breaks = 0;
    self->unknown.length = 0;
    self->custom.length = 0;
    *broken = 1; /* until the event has been read */
    if (!append(out, "{", 1))
        return 0;
    Text at = skip_blanks(self, *start + 1, end);
    int more = at == end || *at != '}';
    while (more) {
        if (at == end || *at != '"')
            return 0;
        Text name = at, name_end = key_end(self, at + 1, end, key, &key);
        if (name_end == NULL)
            return 0;
        if (key == NULL || key->last_event == self->event)
            for_python = 1;
        else
            key->last_event = self->event;

        at = skip_blanks(self, name_end, end);
        if (at == end || *at != ':')
            return 0;
        at = skip_blanks(self, at + 1, end);
        Text value = at;
        Fit fit = fit_member(self, &at, end, key);
        if (fit == BROKEN)
            return 0;
        for_python |= fit == FOR_PYTHON;

        if (for_python) /* what stands in `out` of this event goes again */
            ;
        else if (key->role == KEPT) {
            if (span == NULL)
                span = name;
            span_end = at;
            if (fit == BECOMES_NULL) {
                if (!append_members(out, span, value, record) || !append(out, "null", 4))
                    return 0;
                span = NULL;
            }
        }
        else {
            if (!append_members(out, span, span_end, record))
                return 0;
            span = NULL;
            if (key->role == UNKNOWN && !append_unknown(self, key, name, name_end, value, at))
                return 0;
        }

        at = skip_blanks(self, at, end);
        if (at == end || (*at != ',' && *at != '}'))
            return 0;
        more = *at == ',';
        if (more)
            at = skip_blanks(self, at + 1, end);
    }
    at++;
    *broken = 0;
    if (for_python) {
        out->length = record;
        if (!append_from_python(self, plain, *start, at, broken))
            return 0;
    }
    else if (!append_members(out, span, span_end, record) || !append_custom_vars(self, record)
             || !append(out, "}", 1) || !count_unknown(self))
        return 0;
    if (self->line_breaks)
        remove_line_breaks(out, record);
    *start = at;
    return 1;
}

/* --- the Python type --- */

/* The unknown keys of the run, with their counts; NULL with an exception set. */
static PyObject *
counts_of_run(Scanner *self)
{
    PyObject *counts = PyDict_New();
    for (size_t at = 0; counts != NULL && at < self->counted.length; at += sizeof(Key *)) {
        Key *key = key_at(&self->counted, at);
        PyObject *name = PyUnicode_DecodeUTF8(key->name, key->length, "strict");
        PyObject *count = PyLong_FromSsize_t(key->count);
        if (name == NULL || count == NULL || PyDict_SetItem(counts, name, count) < 0)
            Py_CLEAR(counts);
        Py_XDECREF(name);
        Py_XDECREF(count);
    }
    return counts;
}

PyDoc_STRVAR(lines_doc,
"lines(run, head, tail, plain)\n--\n\n"
"The RECORD lines of a run, events parted by commas: each record between `head` and `tail`.\n\n"
"Returns how many events there are, the lines, and how often each unknown key occurs; None if the\n"
"run is broken. `plain` makes the record of an event that is none of the usual, or None.");

static PyObject *
lines(Scanner *self, PyObject *args)
{
    const char *run, *head, *tail;
    Py_ssize_t run_length, head_length, tail_length, events = 0;
    PyObject *plain;
    if (!PyArg_ParseTuple(args, "y#y#y#O", &run, &run_length, &head, &head_length, &tail,
                          &tail_length, &plain))
        return NULL;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another run is in hand");
        return NULL;
    }
    self->busy = 1;
    self->out.length = 0;
    Text end = (Text)run + run_length;
    Text at = skip_blanks(self, (Text)run, end);
    int broken = 0;
    for (;;) {
        if ((broken = at == end || *at != '{'))
            break;
        if (!append(&self->out, head, head_length)
            || !append_record(self, &at, end, plain, &broken)
            || !append(&self->out, tail, tail_length))
            break;
        events++;
        at = skip_blanks(self, at, end);
        if (at == end || (broken = *at != ','))
            break;
        at = skip_blanks(self, at + 1, end);
    }
    PyObject *result = NULL;
    if (!PyErr_Occurred()) {
        if (broken)
            result = Py_NewRef(Py_None);
        else
            result = Py_BuildValue("ny#N", events, self->out.bytes,
                                   (Py_ssize_t)self->out.length, counts_of_run(self));
    }
    for (size_t i = 0; i < self->counted.length; i += sizeof(Key *))
        key_at(&self->counted, i)->count = 0;
    self->counted.length = 0;
    if (self->out.capacity > KEPT_BYTES)
        release(&self->out);
    if (self->custom.capacity > KEPT_BYTES)
        release(&self->custom);
    self->busy = 0;
    return result;
}

static int
add_known(Scanner *self, PyObject *known)
{
    PyObject *name, *row;
    Py_ssize_t at = 0, length;
    while (PyDict_Next(known, &at, &name, &row)) {
        int role, types, items;
        const char *text = PyUnicode_AsUTF8AndSize(name, &length);
        if (text == NULL || !PyArg_ParseTuple(row, "iii", &role, &types, &items)
            || add_key(self, (Text)text, length, role, types, items) == NULL)
            return 0;
    }
    return 1;
}

static void
scanner_dealloc(Scanner *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    for (size_t at = 0; at < self->slots; at++)
        if (self->table[at] != NULL) {
            PyMem_Free(self->table[at]->name);
            PyMem_Free(self->table[at]);
        }
    PyMem_Free(self->table);
    release(&self->out);
    release(&self->custom);
    release(&self->unknown);
    release(&self->counted);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *
scanner_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"known", "custom_vars", "as_text", NULL};
    PyObject *known;
    int custom_vars, as_text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!pp", names, &PyDict_Type, &known,
                                     &custom_vars, &as_text))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Scanner *self = (Scanner *)allocate(type, 0); /* all zero */
    if (self == NULL)
        return NULL;
    self->wants_custom_vars = custom_vars;
    self->custom_vars_as_text = as_text;
    if (!grow(self) || !add_known(self, known)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"lines", (PyCFunction)lines, METH_VARARGS, lines_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(scanner_doc,
"Scanner(known, custom_vars, as_text)\n--\n\n"
"Turns the events of one stream into RECORD lines; learns unknown keys on the way.\n\n"
"`known` has the role, types and types of items of each key that the catalog lists.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)scanner_doc},
    {Py_tp_new, scanner_new},
    {Py_tp_dealloc, scanner_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tap_fullstory._native.Scanner",
    .basicsize = sizeof(Scanner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int
execute(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Scanner", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The fast road's scanner; see native.py.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
