/* Encode chunks of events as RECORD lines, in one pass over their bytes.

   The rules are those of the reference encoder in encoder.py; this file only does the usual case
   quickly. What it writes is verified on the way: every byte of an event has been read as JSON (RFC
   8259), every string is UTF-8 without lone surrogates, every value is of its column's type, and
   every key is there once. An event that needs anything else is handed to `fallback` by itself. A
   chunk that is not valid is handed back whole, and the reference encoder says what is wrong.

   Bytes go out as they came. A record consists of the spans of its event that are kept, without
   line breaks, and of CustomVars, in which undeclared keys are gathered.

   What bounds every read: the text is one immutable bytes object, which the arguments of the call keep
   alive. Functions take it as `at` and `end`, with `at <= end`, and never read at `end`: each looks
   at one byte only after `at < end`, and at more only after it has compared `end - at` with their
   number. One that advances returns a pointer up to `end`, or NULL. Nothing recurses, and values
   nest at most MAX_DEPTH levels. Builds without NDEBUG assert all this where the bytes are read.

   What bounds the time that a signal waits: every loop over text is divided into slices of
   SLICE_BYTES, between which handlers of signals run, which may raise.

   What bounds memory: keys are kept for the scanner's life, at most MAX_REGISTERED_KEYS besides
   those of the catalog, of at most MAX_KEY_BYTES each; that is 12 MB at worst, and it bounds the
   counts that a chunk can return. All else is proportional to the chunk and its lines; buffers that a
   large event has filled are given back before it is copied, to `fallback` or as lines. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#if PY_VERSION_HEX >= 0x030D0000
/* What PY_SSIZE_T_CLEAN does with older headers. These functions are in the stable ABI of every
   version, and those without _SizeT take no "#" in a format before 3.13, so that a module built
   with newer headers would fail there. */
PyAPI_FUNC(int) _PyArg_ParseTuple_SizeT(PyObject *, const char *, ...);
PyAPI_FUNC(int)
    _PyArg_ParseTupleAndKeywords_SizeT(PyObject *, PyObject *, const char *, char *const *, ...);
PyAPI_FUNC(PyObject *) _Py_BuildValue_SizeT(const char *, ...);
PyAPI_FUNC(PyObject *) _PyObject_CallFunction_SizeT(PyObject *, const char *, ...);
#define PyArg_ParseTuple _PyArg_ParseTuple_SizeT
#define PyArg_ParseTupleAndKeywords _PyArg_ParseTupleAndKeywords_SizeT
#define Py_BuildValue _Py_BuildValue_SizeT
#define PyObject_CallFunction _PyObject_CallFunction_SizeT
#endif
#include <assert.h>
#include <stdint.h>
#include <string.h>

typedef const unsigned char *Text;

/* What a value may be, by its first character. */
enum {
    STRING = 1,
    NUMBER = 2,
    INTEGER = 4, /* a number without fraction or exponent; others equal to one are for `fallback` */
    BOOLEAN = 8,
    NULL_VALUE = 16,
    ARRAY = 32,
    OBJECT = 64,
    DATE_TIME = 128, /* its strings are RFC 3339 date-times, or empty where null is allowed */
    ITEMS = 256,     /* its arrays hold what `items` says */
    DECIMAL = 512,   /* a number with a fraction or exponent; integers are for `fallback` */
    BOUNDED = 1024,  /* numbers and date-times that files of columns may not hold are for `fallback` */
    ANYTHING = STRING | NUMBER | BOOLEAN | NULL_VALUE | ARRAY | OBJECT
};

enum {
    MAX_DEPTH = 500, /* levels of objects and arrays, the event included; as in json_text.py */
    MAX_REGISTERED_KEYS = 10000, /* events with undeclared keys beyond these go to `fallback` */
    MAX_KEY_BYTES = 1000,        /* of a key that is registered */
    MAX_DATE_TIME_BYTES = 200,   /* as in columns.py */
    SEED_BYTES = 16,
    SLICE_BYTES = 1 << 20, /* between two checks for signals; some milliseconds at most */
    MAX_IDLE_BYTES = 1 << 20, /* of a buffer, that are allocated and not needed */
};

/* What becomes of a key's values: those of HASHED keys, declared or not, are replaced by what
   `hash_value` makes of them. */
typedef enum { KEPT, DROPPED, UNDECLARED, HASHED, UNDECLARED_HASHED } Role;

/* The key whose value an event's type is. */
static const char EVENT_TYPE[] = "EventType";

/* What becomes of one value. */
typedef enum { FITS, NULLED, FALLBACK, INVALID } Fit;

/* What becomes of one event, or of a chunk. */
typedef enum {
    WRITTEN,
    LEFT_OUT,  /* an event whose type is not wanted */
    NOT_VALID, /* and no exception set */
    RAISED,    /* an exception is set */
} Outcome;

typedef struct Key {
    char *name; /* as it is between the quotes: UTF-8 without escapes */
    size_t length;
    uint64_t hash;
    Role role;
    int is_event_type;
    int types;
    int items;
    uint64_t last_event; /* the last one that had it, to notice a duplicate */
    Py_ssize_t count;    /* of events in this chunk, if the key is undeclared */
    struct Key *next;    /* the key that came after it the last time */
} Key;

typedef struct {
    char *bytes;
    size_t length;
    size_t capacity;
} Buffer;

/* What goes around each record. */
typedef struct {
    const char *prefix, *suffix;
    Py_ssize_t prefix_length, suffix_length;
} Envelope;

typedef struct {
    PyObject_HEAD
    Key **table; /* open addressing; `slots` is a power of two */
    size_t slots;
    size_t keys;
    size_t registered;
    uint64_t seed[2];
    int keeps_custom_vars;
    int custom_vars_as_text;
    Buffer out;
    Buffer custom;
    Buffer undeclared; /* Key *: the undeclared keys of the current event */
    Buffer counted;    /* Key *: those of the chunk */
    uint64_t event;
    PyObject *role_of;    /* of an undeclared key, a function of its name; NULL: UNDECLARED */
    PyObject *hash_value; /* a function of a JSON value, as bytes, that returns another one */
    PyObject *event_types; /* a frozenset of types, as JSON, of the events to write; NULL: all */
    int leaves_out;        /* those of `event_types` instead, and writes all others */
    int line_breaks; /* whether the current event has any between its tokens */
    int busy;        /* inside `encode`, which `fallback` must not enter again */
    PyObject *chunk; /* borrowed from the arguments of `encode` */
    Text slice_end;  /* where to let signals be handled next */
} Scanner;

/* --- signals --- */

static inline Text
slice_end(Text at, Text end)
{
    return end - at > SLICE_BYTES ? at + SLICE_BYTES : end;
}

/* Let handlers of signals run, once in a slice. Return 0 with an exception set if one raises. What
   reads text calls this along the way, and treats 0 as it treats text that is not valid; `encode`
   tells the two apart. */
static inline int
go_on(Scanner *self, Text at, Text end)
{
    if (at < self->slice_end)
        return 1;
    self->slice_end = slice_end(at, end);
    return PyErr_CheckSignals() == 0;
}

/* --- buffers --- */

static int
reserve(Buffer *buffer, size_t more)
{
    if (more < buffer->capacity - buffer->length) /* not <=: `bytes` is never NULL after this */
        return 1;
    if (more > PY_SSIZE_T_MAX / 2 || buffer->length > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return 0;
    }
    size_t capacity = 2 * buffer->length + more + 4096;
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
    assert(length < buffer->capacity - buffer->length);
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

/* Give back most of what a large event has made a buffer grow by. */
static void
shrink(Buffer *buffer)
{
    size_t needed = buffer->length + 1;
    if (buffer->capacity < needed + MAX_IDLE_BYTES)
        return;
    char *bytes = PyMem_Realloc(buffer->bytes, needed);
    if (bytes == NULL)
        return; /* it stays as large as it is */
    buffer->bytes = bytes;
    buffer->capacity = needed;
}

static int
append_span(Buffer *buffer, Text from, Text to)
{
    assert(from <= to);
    return append(buffer, from, (size_t)(to - from));
}

/* --- keys --- */

static inline uint64_t
rotate_left(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] = rotate_left(v[0], 32) + v[3];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] = rotate_left(v[2], 32);
}

/* SipHash-1-3 with the scanner's seed. Visitors can name custom variables: without a seed they could
   choose names that share a slot, and make every event slow. */
static uint64_t
hash_of(const Scanner *self, Text name, size_t length)
{
    uint64_t v[4] = {
        self->seed[0] ^ 0x736f6d6570736575u,
        self->seed[1] ^ 0x646f72616e646f6du,
        self->seed[0] ^ 0x6c7967656e657261u,
        self->seed[1] ^ 0x7465646279746573u,
    };
    uint64_t word;
    size_t at = 0;
    for (; length - at >= 8; at += 8) {
        memcpy(&word, name + at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = (uint64_t)length << 56;
    for (int bits = 0; at < length; at++, bits += 8)
        word |= (uint64_t)name[at] << bits;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot of the key with this name, or the empty one where it would go. */
static Key **
slot_of(Scanner *self, Text name, size_t length, uint64_t hash)
{
    assert(self->keys < self->slots); /* or this would not end */
    size_t at = (size_t)hash & (self->slots - 1);
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
    key->hash = hash_of(self, name, length);
    key->role = role;
    key->is_event_type = self->event_types != NULL && length == sizeof EVENT_TYPE - 1
        && !memcmp(name, EVENT_TYPE, length);
    key->types = types;
    key->items = items;
    *slot_of(self, name, length, key->hash) = key;
    self->keys++;
    return key;
}

/* The role of a key that is not declared; -1 with an exception set. */
static int
undeclared_role(Scanner *self, Text name, size_t length)
{
    if (self->role_of == NULL)
        return UNDECLARED;
    PyObject *role = PyObject_CallFunction(self->role_of, "s#", name, (Py_ssize_t)length);
    long value = role == NULL ? -1 : PyLong_AsLong(role);
    Py_XDECREF(role);
    assert(value == UNDECLARED || value == DROPPED || value == UNDECLARED_HASHED || value == -1);
    return (int)value;
}

/* --- JSON --- */

/* The end of whitespace; `end` with an exception set if a handler of a signal raises, which is not
   valid wherever something has to follow. */
static inline Text
skip_whitespace(Scanner *self, Text at, Text end)
{
    assert(at <= end);
    for (Text stop = slice_end(at, end);; stop = slice_end(at, end)) {
        for (; at < stop; at++) {
            if (*at == '\n' || *at == '\r')
                self->line_breaks = 1;
            else if (*at != ' ' && *at != '\t')
                return at;
        }
        if (at == end || !go_on(self, at, end))
            return end;
    }
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

/* The end of the escape that begins at `at`; NULL if it is not valid, or a lone surrogate. */
static Text
escape_end(Text at, Text end)
{
    assert(at < end && *at == '\\');
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

/* The end of a character of two to four bytes; NULL if it is not UTF-8 (RFC 3629, section 4). */
static Text
character_end(Text at, Text end)
{
    assert(at < end);
    unsigned char c = at[0];
    unsigned char min = 0x80, max = 0xBF; /* of the second byte */
    int more;
    if (c >= 0xC2 && c <= 0xDF)
        more = 1;
    else if (c >= 0xE0 && c <= 0xEF) {
        more = 2;
        if (c == 0xE0)
            min = 0xA0;
        else if (c == 0xED)
            max = 0x9F;
    }
    else if (c >= 0xF0 && c <= 0xF4) {
        more = 3;
        if (c == 0xF0)
            min = 0x90;
        else if (c == 0xF4)
            max = 0x8F;
    }
    else
        return NULL;
    if (end - at <= more || at[1] < min || at[1] > max)
        return NULL;
    for (int i = 2; i <= more; i++)
        if ((at[i] & 0xC0) != 0x80)
            return NULL;
    return at + more + 1;
}

#define ONES ((uint64_t)0x0101010101010101u)
#define HIGH_BITS (ONES * 0x80)

/* Has one of HIGH_BITS set if, and only if, a byte of `word` is `c`. */
static inline uint64_t
has_byte(uint64_t word, unsigned char c)
{
    uint64_t zero = word ^ (ONES * c);
    return (zero - ONES) & ~zero;
}

/* The end, after the closing quote, of a string whose first character is at `at`; NULL if it is not
   valid. */
static inline Text
string_end(Scanner *self, Text at, Text end)
{
    assert(at <= end);
    for (;;) {
        Text stop = slice_end(at, end);
        /* Eight bytes at once, while none of them is a quote, a backslash, a control character or
           beyond ASCII. */
        while (stop - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            uint64_t special = has_byte(word, '"') | has_byte(word, '\\')
                | ((word - ONES * 0x20) & ~word) | word;
            if (special & HIGH_BITS)
                break;
            at += 8;
        }
        while (at < stop && *at != '"' && *at != '\\' && *at >= 0x20 && *at < 0x80)
            at++;
        if (at == end || *at < 0x20)
            return NULL;
        if (at < stop && *at == '"')
            return at + 1;
        if (!go_on(self, at, end))
            return NULL;
        if (at == stop)
            continue;
        at = *at == '\\' ? escape_end(at, end) : character_end(at, end);
        if (at == NULL)
            return NULL;
    }
}

/* The end of at least one digit; NULL if there is none. */
static inline Text
digits_end(Scanner *self, Text at, Text end)
{
    assert(at <= end);
    if (at == end || !is_digit(*at))
        return NULL;
    for (;;) {
        Text stop = slice_end(at, end);
        while (at < stop && is_digit(*at))
            at++;
        if (at < stop || at == end)
            return at;
        if (!go_on(self, at, end))
            return NULL;
    }
}

/* The end of a number; NULL if it is not valid. */
static inline Text
number_end(Scanner *self, Text at, Text end, int *is_integer)
{
    assert(at <= end);
    *is_integer = 1;
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else if ((at = digits_end(self, at, end)) == NULL)
        return NULL;
    if (at < end && *at == '.') {
        *is_integer = 0;
        if ((at = digits_end(self, at + 1, end)) == NULL)
            return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        *is_integer = 0;
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = digits_end(self, at, end);
    }
    return at;
}

static inline Text
literal_end(Text at, Text end, const char *literal, size_t length)
{
    assert(at <= end);
    return (size_t)(end - at) >= length && !memcmp(at, literal, length) ? at + length : NULL;
}

/* The end of a string, number, true, false or null; NULL if it is not valid. */
static inline Text
scalar_end(Scanner *self, Text at, Text end)
{
    int is_integer;
    assert(at < end);
    switch (*at) {
    case '"':
        return string_end(self, at + 1, end);
    case 't':
        return literal_end(at, end, "true", 4);
    case 'f':
        return literal_end(at, end, "false", 5);
    case 'n':
        return literal_end(at, end, "null", 4);
    default:
        return number_end(self, at, end, &is_integer);
    }
}

/* The start of the value of a member whose key is at `at`; NULL if what is before it is not
   valid. */
static inline Text
member_value(Scanner *self, Text at, Text end)
{
    if (at == end || *at != '"' || (at = string_end(self, at + 1, end)) == NULL)
        return NULL;
    at = skip_whitespace(self, at, end);
    return at == end || *at != ':' ? NULL : skip_whitespace(self, at + 1, end);
}

/* The end of a value of any kind, inside `depth` objects and arrays; NULL if it is not valid, or
   nested too deep. */
static Text
value_end(Scanner *self, Text at, Text end, int depth)
{
    unsigned char closing[MAX_DEPTH]; /* the bracket that ends each level */
    int level = depth;

value:
    if (at == end || !go_on(self, at, end))
        return NULL;
    if (*at == '{' || *at == '[') {
        if (level == MAX_DEPTH)
            return NULL;
        unsigned char bracket = *at == '{' ? '}' : ']';
        at = skip_whitespace(self, at + 1, end);
        if (at < end && *at == bracket)
            at++;
        else {
            closing[level++] = bracket;
            goto member;
        }
    }
    else if ((at = scalar_end(self, at, end)) == NULL)
        return NULL;

    for (;;) {
        if (level == depth)
            return at;
        at = skip_whitespace(self, at, end);
        if (at == end)
            return NULL;
        if (*at != closing[level - 1])
            break;
        level--;
        at++;
    }
    if (*at != ',')
        return NULL;
    at = skip_whitespace(self, at + 1, end);

member:
    if (closing[level - 1] == '}' && (at = member_value(self, at, end)) == NULL)
        return NULL;
    goto value;
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

/* Whether text without escapes is a date-time as times.is_date_time has it, and goes out as it is. The
   first and the last year, in which the offset counts, are for `fallback`, and so are lower-case
   letters. */
static int
is_date_time(Text at, size_t length)
{
    static const unsigned char days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    Text end = at + length;
    if (length < 20 || length > MAX_DATE_TIME_BYTES) /* 20: all that is read before the fraction */
        return 0;
    int year = digits(at, 4), month = digits(at + 5, 2), day = digits(at + 8, 2);
    int hour = digits(at + 11, 2), minute = digits(at + 14, 2), second = digits(at + 17, 2);
    if (at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' || at[16] != ':')
        return 0;
    if (year <= 1 || year == 9999 || month < 1 || month > 12 || day < 1 || day > days[month - 1])
        return 0;
    if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
        return 0;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
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
        return *at == 'Z';
    if (end - at != 6 || (*at != '+' && *at != '-') || at[3] != ':')
        return 0;
    hour = digits(at + 1, 2);
    minute = digits(at + 4, 2);
    return hour >= 0 && hour <= 15 && minute >= 0 && minute <= 59;
}

/* The type of a value that begins with `c`; NUMBER also if no value begins so. */
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

/* Whether files of columns can hold a number: 64 bits for an integer, a finite double otherwise. What
   is not easy to tell is for `fallback`. */
static int
is_bounded(Text at, Text end, int is_integer)
{
    if (!is_integer)
        return end - at <= 300 && !memchr(at, 'e', (size_t)(end - at)) &&
               !memchr(at, 'E', (size_t)(end - at));
    uint64_t limit = (uint64_t)INT64_MAX + (*at == '-'), value = 0;
    at += *at == '-';
    if (end - at > 19)
        return 0;
    for (; at < end; at++)
        value = value * 10 + (uint64_t)(*at - '0'); /* 19 digits always have room */
    return value <= limit;
}

/* Whether the value at `*at`, inside `depth` objects and arrays, is one of `types` as it is, whatever
   its items are; `*at` goes to its end, unless it is not valid. */
static inline Fit
check_value(Scanner *self, Text *at, Text end, int types, int depth)
{
    Text start = *at;
    if (start == end)
        return INVALID;
    int type = type_of(*start), is_integer;
    if (type == NUMBER) {
        if ((*at = number_end(self, start, end, &is_integer)) == NULL)
            return INVALID;
        if (types & BOUNDED && !is_bounded(start, *at, is_integer))
            return FALLBACK;
        return types & NUMBER || types & (is_integer ? INTEGER : DECIMAL) ? FITS : FALLBACK;
    }
    *at = type == STRING ? string_end(self, start + 1, end)
                         : value_end(self, start, end, depth);
    if (*at == NULL)
        return INVALID;
    if (!(types & type))
        return FALLBACK;
    size_t length = (size_t)(*at - start);
    assert(type != STRING || length >= 2); /* the quotes */
    if (type == STRING && types & DATE_TIME && !is_date_time(start + 1, length - 2))
        return length == 2 && types & NULL_VALUE ? NULLED : FALLBACK;
    if (type == STRING && types & DATE_TIME && types & BOUNDED && length > 29 && is_digit(start[27]))
        return FALLBACK; /* more than six digits after the seconds */
    return FITS;
}

/* As check_value, for an array that is a member's value, and whose items all have to be one of
   `types`. */
static Fit
check_items(Scanner *self, Text *at, Text end, int types)
{
    Fit worst = FITS;
    Text item = skip_whitespace(self, *at + 1, end);
    if (item < end && *item == ']') {
        *at = item + 1;
        return FITS;
    }
    for (;;) {
        if (!go_on(self, item, end))
            return INVALID;
        Fit fit = check_value(self, &item, end, types, 2);
        if (fit == INVALID)
            return INVALID;
        if (fit != FITS)
            worst = FALLBACK;
        item = skip_whitespace(self, item, end);
        if (item == end || (*item != ']' && *item != ','))
            return INVALID;
        if (*item++ == ']') {
            *at = item;
            return worst;
        }
        item = skip_whitespace(self, item, end);
    }
}

/* What becomes of a member's value; `*at` goes to its end, unless it is not valid. */
static inline Fit
check_member(Scanner *self, Text *at, Text end, const Key *key)
{
    if (key == NULL || key->role != KEPT) { /* also HASHED: of any type */
        if (*at < end && **at == '"') /* most are strings: worth being inlined */
            *at = string_end(self, *at + 1, end);
        else
            *at = value_end(self, *at, end, 1);
        return *at == NULL ? INVALID : FITS;
    }
    if (key->types & ITEMS && key->types & ARRAY && *at < end && **at == '[')
        return check_items(self, at, end, key->items);
    return check_value(self, at, end, key->types, 1);
}

/* --- records --- */

/* Write members of a record, and the comma before them if any come before; none if `from` is
   NULL. */
static int
append_members(Buffer *out, Text from, Text to, size_t record)
{
    if (from == NULL)
        return 1;
    return (out->length == record + 1 || append(out, ",", 1)) && append_span(out, from, to);
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
        if (i % SLICE_BYTES == 0 && PyErr_CheckSignals() < 0)
            return 0;
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
    out->length = (size_t)(to - out->bytes);
    assert(out->length < out->capacity);
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

/* Whether events of the type that this value is are wanted; -1 with an exception set. */
static int
is_wanted(Scanner *self, Text type, Text type_end)
{
    assert(type < type_end);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)type, (Py_ssize_t)(type_end - type));
    int listed = bytes == NULL ? -1 : PySet_Contains(self->event_types, bytes);
    Py_XDECREF(bytes);
    return listed < 0 ? -1 : listed != self->leaves_out;
}

/* Write the record that `fallback` makes of an event. */
static Outcome
append_from_fallback(Scanner *self, PyObject *fallback, Text start, Text end)
{
    assert(start < end);
    /* An event that is alone in its chunk may be large: no copy of it, and no buffer that it filled. */
    self->custom.length = 0;
    shrink(&self->custom);
    shrink(&self->out);
    PyObject *record = end - start == PyBytes_Size(self->chunk)
        ? PyObject_CallFunctionObjArgs(fallback, self->chunk, NULL)
        : PyObject_CallFunction(fallback, "y#", start, (Py_ssize_t)(end - start));
    if (record == NULL)
        return RAISED;
    char *bytes;
    Py_ssize_t length;
    Outcome outcome = RAISED;
    if (record == Py_None)
        outcome = NOT_VALID;
    else if (PyBytes_AsStringAndSize(record, &bytes, &length) == 0
             && append(&self->out, bytes, (size_t)length))
        outcome = length > 0 ? WRITTEN : LEFT_OUT;
    Py_DECREF(record);
    return outcome;
}

/* Remove the line breaks of a record: valid JSON has them between its tokens only. */
static int
remove_line_breaks(Buffer *out, size_t record)
{
    char *to = out->bytes + record;
    for (size_t i = record; i < out->length; i++) {
        if ((i - record) % SLICE_BYTES == 0 && PyErr_CheckSignals() < 0)
            return 0;
        if (out->bytes[i] != '\n' && out->bytes[i] != '\r')
            *to++ = out->bytes[i];
    }
    out->length = (size_t)(to - out->bytes);
    return 1;
}

/* Read the key whose first character is at `*at`, and go to after its closing quote. `before` is the
   event's key before it. `*found` is NULL if the key is for `fallback`. */
static inline Outcome
read_key(Scanner *self, Text *at, Text end, Key *before, Key **found)
{
    Text name = *at;
    Key *key = before == NULL ? NULL : before->next;
    if (key != NULL && (size_t)(end - name) > key->length && name[key->length] == '"'
        && !memcmp(name, key->name, key->length)) {
        *at = name + key->length + 1;
        *found = key;
        return WRITTEN;
    }
    *found = NULL;
    if ((*at = string_end(self, name, end)) == NULL)
        return NOT_VALID;
    assert(*at > name);
    size_t length = (size_t)(*at - name) - 1;
    if (memchr(name, '\\', length) != NULL)
        return WRITTEN;
    key = *slot_of(self, name, length, hash_of(self, name, length));
    if (key == NULL && self->registered < MAX_REGISTERED_KEYS && length <= MAX_KEY_BYTES) {
        int role = undeclared_role(self, name, length);
        if (role < 0 || (key = add_key(self, name, length, (Role)role, ANYTHING, 0)) == NULL)
            return RAISED;
        self->registered++;
    }
    if (before != NULL && key != NULL)
        before->next = key;
    *found = key;
    return WRITTEN;
}

/* Write the hash of a value. */
static int
append_hash(Scanner *self, Buffer *out, Text value, Text value_end)
{
    assert(value < value_end);
    PyObject *hash
        = PyObject_CallFunction(self->hash_value, "y#", value, (Py_ssize_t)(value_end - value));
    char *bytes;
    Py_ssize_t length;
    int done = hash != NULL && PyBytes_AsStringAndSize(hash, &bytes, &length) == 0
        && append(out, bytes, (size_t)length);
    Py_XDECREF(hash);
    return done;
}

/* Take an undeclared key, from its opening quote at `name`, and its value, for CustomVars. */
static int
append_undeclared(Scanner *self, Key *key, Text name, Text name_end, Text value, Text value_end)
{
    Buffer *custom = &self->custom;
    if (!append(&self->undeclared, &key, sizeof key))
        return 0;
    if (!self->keeps_custom_vars)
        return 1;
    return (custom->length == 0 || append(custom, ",", 1)) && append_span(custom, name, name_end)
        && append(custom, ":", 1)
        && (key->role == UNDECLARED_HASHED ? append_hash(self, custom, value, value_end)
                                           : append_span(custom, value, value_end));
}

/* The key at a place in `undeclared` or `counted`. */
static Key *
key_at(const Buffer *keys, size_t at)
{
    Key *key;
    assert(at + sizeof key <= keys->length);
    memcpy(&key, keys->bytes + at, sizeof key);
    return key;
}

/* Count the undeclared keys of the current event. */
static int
count_undeclared(Scanner *self)
{
    for (size_t at = 0; at < self->undeclared.length; at += sizeof(Key *)) {
        Key *key = key_at(&self->undeclared, at);
        if (key->count == 0 && !append(&self->counted, &key, sizeof key))
            return 0;
        key->count++;
    }
    return 1;
}

/* Whether an object is in a value, whose members have rules of their own; perhaps also where one
   only seems to be, in a text. */
static inline int
may_have_members(Text value, Text value_end)
{
    return (*value == '{' || *value == '[')
        && memchr(value, '{', (size_t)(value_end - value)) != NULL;
}

/* One member of an event, as it has been read: what comes before `name` and after `value_end` are a
   comma or a bracket, and whitespace. */
typedef struct {
    Key *key; /* NULL: one that only `fallback` can tell */
    Text name, name_end, value, value_end;
    Fit fit;
} Member;

/* What has been decided of an event by the members that were read. Once one of the first two is set,
   nothing more is written, and what was written is removed at the event's end; but the event is read
   to its end, since it has to be valid whatever becomes of it. */
typedef struct {
    int needs_fallback; /* which then decides whether the event is wanted, too */
    int is_unwanted;    /* by the last of its types */
    int has_type;
} Decision;

/* Members to write that are beside each other in the event, from the first one's name to the last
   one's end. Between these are only such members, so all of it is copied at once, commas included. */
typedef struct {
    Text from, to; /* NULL: none */
} Span;

/* Read a member from its opening quote at `*at`, and go to the end of its value. `before` is the key
   before it in the event. */
static inline Outcome
read_member(Scanner *self, Text *at, Text end, Key *before, Member *member)
{
    if (*at == end || **at != '"' || !go_on(self, *at, end))
        return NOT_VALID;
    member->name = *at;
    member->name_end = *at + 1;
    Outcome outcome = read_key(self, &member->name_end, end, before, &member->key);
    if (outcome != WRITTEN)
        return outcome;
    *at = skip_whitespace(self, member->name_end, end);
    if (*at == end || **at != ':')
        return NOT_VALID;
    *at = skip_whitespace(self, *at + 1, end);
    member->value = *at;
    member->fit = check_member(self, at, end, member->key);
    member->value_end = *at;
    return member->fit == INVALID ? NOT_VALID : WRITTEN;
}

/* Decide what a member means for its event; 0 with an exception set if that fails. A key's
   `last_event` is the event's number once it has been seen in the event, so a key that has it already
   is there twice; events are numbered from 1, and a new key has 0. */
static inline int
decide(Scanner *self, const Member *member, Decision *decision)
{
    Key *key = member->key;
    if (key == NULL || key->last_event == self->event || member->fit == FALLBACK)
        decision->needs_fallback = 1;
    if (key == NULL)
        return 1;
    key->last_event = self->event;
    if (self->role_of != NULL && (key->role == KEPT || key->role == UNDECLARED))
        decision->needs_fallback |= may_have_members(member->value, member->value_end);
    if (key->is_event_type) {
        size_t length = (size_t)(member->value_end - member->value);
        int wanted = is_wanted(self, member->value, member->value_end);
        if (wanted < 0)
            return 0;
        decision->needs_fallback |= memchr(member->value, '\\', length) != NULL;
        decision->is_unwanted = !wanted;
        decision->has_type = 1;
    }
    return 1;
}

/* Write the members of a span, after the comma that separates them from those before. */
static inline int
append_pending(Buffer *out, Span *span, size_t record)
{
    Span pending = *span;
    *span = (Span){NULL, NULL};
    return append_members(out, pending.from, pending.to, record);
}

/* Write a member, or note it in `span`, to be written with those that follow. It has a key, and fits
   its column as it is, or as null. */
static inline int
write_member(Scanner *self, const Member *member, Span *span, size_t record)
{
    Buffer *out = &self->out;
    Key *key = member->key;
    assert(key != NULL && (member->fit == FITS || member->fit == NULLED));
    if (key->role == KEPT || key->role == HASHED) {
        if (span->from == NULL)
            span->from = member->name;
        span->to = member->value_end;
        if (key->role == KEPT && member->fit == FITS)
            return 1;
        span->to = member->value; /* up to its colon; something else comes in the value's place */
        if (!append_pending(out, span, record))
            return 0;
        return member->fit == NULLED ? append(out, "null", 4)
                                     : append_hash(self, out, member->value, member->value_end);
    }
    if (!append_pending(out, span, record))
        return 0;
    return key->role == DROPPED
        || append_undeclared(self, key, member->name, member->name_end, member->value,
                             member->value_end);
}

/* Write the record of the event whose `{` is at `*start`, and go to the event's end. What `out` has of
   an event that is LEFT_OUT is of no use: the caller removes it. */
static Outcome
append_record(Scanner *self, Text *start, Text end, PyObject *fallback)
{
    Buffer *out = &self->out;
    size_t record = out->length;
    Decision decision = {0, 0, 0};
    Span span = {NULL, NULL};
    Member member = {NULL, NULL, NULL, NULL, NULL, FITS};

    assert(*start < end && **start == '{');
    self->event++;
    self->line_breaks = 0;
    self->undeclared.length = 0;
    self->custom.length = 0;
    if (!append(out, "{", 1))
        return RAISED;
    Text at = skip_whitespace(self, *start + 1, end);
    int more = at == end || *at != '}';
    while (more) {
        Outcome outcome = read_member(self, &at, end, member.key, &member);
        if (outcome != WRITTEN)
            return outcome;
        if (!decide(self, &member, &decision))
            return RAISED;
        if (!decision.needs_fallback && !decision.is_unwanted
            && !write_member(self, &member, &span, record))
            return RAISED;
        at = skip_whitespace(self, at, end);
        if (at == end || (*at != ',' && *at != '}'))
            return NOT_VALID;
        more = *at == ',';
        if (more)
            at = skip_whitespace(self, at + 1, end);
    }
    at++;
    Text event = *start;
    *start = at;
    if (decision.needs_fallback) {
        out->length = record;
        Outcome outcome = append_from_fallback(self, fallback, event, at);
        if (outcome != WRITTEN)
            return outcome;
    }
    else if (decision.is_unwanted
             || (!decision.has_type && self->event_types != NULL && !self->leaves_out))
        return LEFT_OUT;
    else if (!append_pending(out, &span, record) || !append_custom_vars(self, record)
             || !append(out, "}", 1) || !count_undeclared(self))
        return RAISED;
    return self->line_breaks && !remove_line_breaks(out, record) ? RAISED : WRITTEN;
}

/* Write the lines of at most `max_events` events, `*left_out` of which have none. `*at` goes to the
   end of the last one. */
static Outcome
append_lines(Scanner *self, Text *at, Text end, const Envelope *around, PyObject *fallback,
             Py_ssize_t max_events, Py_ssize_t *events, Py_ssize_t *left_out)
{
    for (Text next = skip_whitespace(self, *at, end);; next = skip_whitespace(self, next + 1, end)) {
        if (next == end || *next != '{')
            return NOT_VALID;
        size_t line = self->out.length;
        if (!append(&self->out, around->prefix, (size_t)around->prefix_length))
            return RAISED;
        Outcome outcome = append_record(self, &next, end, fallback);
        if (outcome == LEFT_OUT) {
            self->out.length = line;
            ++*left_out;
        }
        else if (outcome != WRITTEN)
            return outcome;
        else if (!append(&self->out, around->suffix, (size_t)around->suffix_length))
            return RAISED;
        *at = next;
        if (++*events == max_events)
            return WRITTEN;
        next = skip_whitespace(self, next, end);
        if (next == end)
            return PyErr_Occurred() ? RAISED : WRITTEN;
        if (*next != ',')
            return NOT_VALID;
    }
}

/* --- where events end --- */

/* The end, after the closing quote, of a string that continues at `at`, whatever it holds; a place up
   to `end` if it has not ended before `stop`. */
static inline Text
raw_string_end(Text at, Text stop, Text end, int *in_string)
{
    assert(at < stop && stop <= end);
    while (at < stop) {
        while (stop - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            if ((has_byte(word, '"') | has_byte(word, '\\')) & HIGH_BITS)
                break;
            at += 8;
        }
        while (at < stop && *at != '"' && *at != '\\')
            at++;
        if (at == stop)
            break;
        if (*at == '"') {
            *in_string = 0;
            return at + 1;
        }
        at += end - at < 2 ? 1 : 2;
    }
    return at;
}

PyDoc_STRVAR(object_end_doc,
"object_end(text, start)\n--\n\n"
"Return the offset after the object or array that starts at `start`; -1 if it has not ended yet.\n\n"
"Brackets outside strings are counted; nothing else is checked. Raises ValueError if they nest\n"
"deeper than MAX_DEPTH levels, or if no bracket opens at `start`.");

static PyObject *
object_end(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *bytes;
    Py_ssize_t length, start;
    if (!PyArg_ParseTuple(args, "y#n", &bytes, &length, &start))
        return NULL;
    if (start < 0 || start >= length || (bytes[start] != '{' && bytes[start] != '[')) {
        PyErr_SetString(PyExc_ValueError, "no object or array starts there");
        return NULL;
    }
    Text text = (Text)bytes, end = text + length, at = text + start, stop = slice_end(at, end);
    int depth = 0, in_string = 0;
    while (at < end) {
        if (at >= stop) {
            stop = slice_end(at, end);
            if (PyErr_CheckSignals() < 0)
                return NULL;
        }
        if (in_string) {
            at = raw_string_end(at, stop, end, &in_string);
            continue;
        }
        switch (*at++) {
        case '"':
            in_string = 1;
            break;
        case '{':
        case '[':
            if (depth++ == MAX_DEPTH)
                return PyErr_Format(PyExc_ValueError, "nested deeper than %d levels", MAX_DEPTH);
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return PyLong_FromSsize_t((Py_ssize_t)(at - text));
            break;
        default:
            break;
        }
    }
    return PyLong_FromLong(-1);
}

/* --- the Python type --- */

/* The undeclared keys of the chunk, with their counts; NULL with an exception set. */
static PyObject *
counts_of_chunk(Scanner *self)
{
    PyObject *counts = PyDict_New();
    for (size_t at = 0; counts != NULL && at < self->counted.length; at += sizeof(Key *)) {
        Key *key = key_at(&self->counted, at);
        PyObject *name = PyUnicode_DecodeUTF8(key->name, (Py_ssize_t)key->length, "strict");
        PyObject *count = PyLong_FromSsize_t(key->count);
        if (name == NULL || count == NULL || PyDict_SetItem(counts, name, count) < 0)
            Py_CLEAR(counts);
        Py_XDECREF(name);
        Py_XDECREF(count);
    }
    return counts;
}

PyDoc_STRVAR(encode_doc,
"encode(chunk, prefix, suffix, fallback, max_events)\n--\n\n"
"Encode events at the start of `chunk`, separated by commas: each record between `prefix` and\n"
"`suffix`.\n\n"
"Return how many events were taken, at most `max_events`; the offset in `chunk` after the last of\n"
"them; the lines; how often each undeclared key occurs; and how many events are left out. Return\n"
"None if the chunk is not valid: what comes after `max_events` events is not read. `fallback`\n"
"makes the record of an event that the scanner does not handle; None if it is not valid, and nothing\n"
"if it is left out. Raises what `fallback` raises.");

static PyObject *
encode(PyObject *object, PyObject *args)
{
    Scanner *self = (Scanner *)object;
    char *bytes;
    Envelope around;
    Py_ssize_t length, max_events, events = 0, left_out = 0;
    PyObject *chunk, *fallback;
    if (!PyArg_ParseTuple(args, "Sy#y#On", &chunk, &around.prefix, &around.prefix_length,
                          &around.suffix, &around.suffix_length, &fallback, &max_events)
        || PyBytes_AsStringAndSize(chunk, &bytes, &length) < 0)
        return NULL;
    if (max_events < 1) {
        PyErr_SetString(PyExc_ValueError, "max_events must be at least 1");
        return NULL;
    }
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the scanner is encoding another chunk");
        return NULL;
    }
    self->busy = 1;
    self->out.length = 0;
    self->chunk = chunk;
    Text at = (Text)bytes;
    self->slice_end = slice_end(at, at + length);
    Outcome outcome
        = append_lines(self, &at, at + length, &around, fallback, max_events, &events, &left_out);
    if (outcome == NOT_VALID && PyErr_Occurred())
        outcome = RAISED;
    self->chunk = NULL;
    self->custom.length = 0;
    shrink(&self->custom); /* before the lines are copied */
    PyObject *result = NULL;
    if (outcome == NOT_VALID)
        result = Py_NewRef(Py_None);
    else if (outcome == WRITTEN) {
        PyObject *counts = counts_of_chunk(self);
        if (counts != NULL)
            result = Py_BuildValue("nny#Nn", events, (Py_ssize_t)(at - (Text)bytes),
                                   self->out.bytes, (Py_ssize_t)self->out.length, counts, left_out);
    }
    for (size_t i = 0; i < self->counted.length; i += sizeof(Key *))
        key_at(&self->counted, i)->count = 0;
    self->counted.length = 0;
    if (self->out.capacity > MAX_IDLE_BYTES)
        release(&self->out);
    self->busy = 0;
    return result;
}

#ifndef NDEBUG
/* For the tests of debug builds. */
static PyObject *
hash_name(PyObject *self, PyObject *args)
{
    const char *name;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "y#", &name, &length))
        return NULL;
    return PyLong_FromUnsignedLongLong(hash_of((Scanner *)self, (Text)name, (size_t)length));
}
#endif

static int
add_declared(Scanner *self, PyObject *declared)
{
    PyObject *name, *row;
    Py_ssize_t at = 0, length;
    while (PyDict_Next(declared, &at, &name, &row)) {
        int role, types, items;
        const char *text = PyUnicode_AsUTF8AndSize(name, &length);
        if (text == NULL || !PyArg_ParseTuple(row, "iii", &role, &types, &items)
            || add_key(self, (Text)text, (size_t)length, (Role)role, types, items) == NULL)
            return 0;
    }
    return 1;
}

static void
scanner_dealloc(PyObject *object)
{
    Scanner *self = (Scanner *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (size_t at = 0; at < self->slots; at++)
        if (self->table[at] != NULL) {
            PyMem_Free(self->table[at]->name);
            PyMem_Free(self->table[at]);
        }
    PyMem_Free(self->table);
    release(&self->out);
    release(&self->custom);
    release(&self->undeclared);
    release(&self->counted);
    Py_XDECREF(self->role_of);
    Py_XDECREF(self->hash_value);
    Py_XDECREF(self->event_types);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *
scanner_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[]
        = {"declared", "custom_vars", "as_text", "seed", "role_of", "hash_value",
           "event_types", "leaves_out", NULL};
    PyObject *declared, *role_of = Py_None, *hash_value = Py_None, *event_types = Py_None;
    int custom_vars, as_text, leaves_out = 0;
    const char *seed;
    Py_ssize_t seed_length;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!ppy#|OOOp", names, &PyDict_Type, &declared,
                                     &custom_vars, &as_text, &seed, &seed_length, &role_of,
                                     &hash_value, &event_types, &leaves_out))
        return NULL;
    if (seed_length != SEED_BYTES)
        return PyErr_Format(PyExc_ValueError, "seed must be %d bytes", SEED_BYTES);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Scanner *self = (Scanner *)allocate(type, 0); /* all zero */
    if (self == NULL)
        return NULL;
    self->keeps_custom_vars = custom_vars;
    self->custom_vars_as_text = as_text;
    self->role_of = role_of == Py_None ? NULL : Py_NewRef(role_of);
    self->hash_value = hash_value == Py_None ? NULL : Py_NewRef(hash_value);
    self->event_types = event_types == Py_None ? NULL : Py_NewRef(event_types);
    self->leaves_out = leaves_out;
    memcpy(self->seed, seed, sizeof self->seed);
    if (!grow(self) || !add_declared(self, declared)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, encode_doc},
#ifndef NDEBUG
    {"_hash", hash_name, METH_VARARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(scanner_doc,
"Scanner(declared, custom_vars, as_text, seed, role_of=None, hash_value=None, event_types=None,\n"
"        leaves_out=False)\n--\n\n"
"Encodes the events of one stream as RECORD lines; registers undeclared keys on the way.\n\n"
"`declared` has the role, types and item types of each key that the catalog lists. `seed` is of\n"
"SEED_BYTES random bytes, for the hash table of keys. `role_of` tells the role of a key that is\n"
"not declared, by its name. `hash_value` returns the JSON value, as bytes, that replaces the value\n"
"of a HASHED key. Only events of `event_types`, JSON values in a frozenset, are written; with\n"
"`leaves_out`, only others.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)scanner_doc},
    {Py_tp_new, (void *)scanner_new},
    {Py_tp_dealloc, (void *)scanner_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tap_fullstory.records._native.Scanner",
    .basicsize = sizeof(Scanner),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static const struct {
    const char *name;
    int value;
} constants[] = {
    {"KEPT", KEPT},
    {"DROPPED", DROPPED},
    {"UNDECLARED", UNDECLARED},
    {"HASHED", HASHED},
    {"UNDECLARED_HASHED", UNDECLARED_HASHED},
    {"STRING", STRING},
    {"NUMBER", NUMBER},
    {"INTEGER", INTEGER},
    {"BOOLEAN", BOOLEAN},
    {"NULL", NULL_VALUE},
    {"ARRAY", ARRAY},
    {"OBJECT", OBJECT},
    {"DATE_TIME", DATE_TIME},
    {"ITEMS", ITEMS},
    {"DECIMAL", DECIMAL},
    {"BOUNDED", BOUNDED},
    {"ANYTHING", ANYTHING},
    {"MAX_DEPTH", MAX_DEPTH},
    {"MAX_REGISTERED_KEYS", MAX_REGISTERED_KEYS},
    {"MAX_KEY_BYTES", MAX_KEY_BYTES},
    {"MAX_DATE_TIME_BYTES", MAX_DATE_TIME_BYTES},
    {"SEED_BYTES", SEED_BYTES},
    {"SLICE_BYTES", SLICE_BYTES},
};

static int
execute(PyObject *module)
{
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    PyObject *type = PyType_FromSpec(&spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Scanner", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef functions[] = {
    {"object_end", object_end, METH_VARARGS, object_end_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The native encoder; see native.py.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
