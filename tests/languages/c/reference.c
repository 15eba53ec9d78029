// The reference filter in C: continues or starts a trace, refuses one path, and tells the client
// the trace id.
//
// Lists and strings that the host hands out are the guest's to free; what a hook returns is freed
// by the bindings, so it has to come from `malloc`. A refused edit ends in `abort`, which is a
// failure of the filter.

#include "reference.h"

#include <stdlib.h>
#include <string.h>

enum { TRACE = 32, PARENT = 16, TRACEPARENT = 55 };

static const reference_string_t NAME = {(uint8_t *)"traceparent", 11};
static const reference_string_t NOTE = {(uint8_t *)"reference.trace", 15};

// Not a literal: the first configuration that names another path puts it here.
static reference_string_t refuse = {(uint8_t *)"/private", 8};

static bool equal(reference_string_t left, reference_string_t right) {
    return left.len == right.len && memcmp(left.ptr, right.ptr, left.len) == 0;
}

// Points at `text` for as long as it lives: for arguments of imported functions.
static reference_string_t lend(char *text) {
    return (reference_string_t){(uint8_t *)text, strlen(text)};
}

// A copy that can be handed over.
static reference_string_t own(const char *text) {
    reference_string_t copy;
    reference_string_dup(&copy, text);
    return copy;
}

static void must(bool done) {
    if (!done) {
        abort();
    }
}

// The configuration is `{}` or `{"refuse":"/path"}`, as the host writes it: JSON without blanks.

static bool skip(const char **at, const char *expected) {
    size_t length = strlen(expected);
    if (strncmp(*at, expected, length) != 0) {
        return false;
    }
    *at += length;
    return true;
}

// What stands between here and the next quote.
static reference_string_t quoted(const char **at) {
    const char *end = strchr(*at, '"');
    must(end != NULL);
    reference_string_t text = {(uint8_t *)*at, (size_t)(end - *at)};
    *at = end + 1;
    return text;
}

static bool mistake(exports_pillion_filter_configure_config_error_t *err, reference_string_t key,
                    const char *message) {
    reference_string_dup_n(&err->key, (const char *)key.ptr, key.len);
    err->message = own(message);
    return false;
}

static bool read_key(reference_string_t key, const char **at,
                     exports_pillion_filter_configure_config_error_t *err) {
    if (!equal(key, lend("refuse"))) {
        return mistake(err, key, "no such key: there is `refuse`");
    }
    if (!skip(at, ":\"/")) {
        return mistake(err, key, "a path begins with `/`");
    }
    *at -= 1;
    reference_string_t path = quoted(at);
    if (memchr(path.ptr, '\\', path.len) != NULL) {
        return mistake(err, key, "a path has no quotes and no backslashes");
    }
    reference_string_dup_n(&refuse, (const char *)path.ptr, path.len);
    return true;
}

bool exports_pillion_filter_configure_configure(
    reference_string_t *config, exports_pillion_filter_configure_config_error_t *err) {
    char *json = strndup((const char *)config->ptr, config->len);
    must(json != NULL);
    reference_string_free(config);
    const char *at = json;
    bool fine = true;
    must(skip(&at, "{"));
    while (fine && skip(&at, "\"")) {
        reference_string_t key = quoted(&at);
        fine = read_key(key, &at, err);
        skip(&at, ",");
    }
    free(json);
    return fine;
}

// Digits in lower case, and where they are an id not only zeros.
static bool digits(const uint8_t *text, size_t length, bool is_id) {
    bool zeros = true;
    for (size_t at = 0; at < length; at++) {
        uint8_t digit = text[at];
        if (!(digit >= '0' && digit <= '9') && !(digit >= 'a' && digit <= 'f')) {
            return false;
        }
        zeros = zeros && digit == '0';
    }
    return !(is_id && zeros);
}

// Version 00 of the field.
static bool valid(reference_string_t line) {
    const uint8_t *at = line.ptr;
    return line.len == TRACEPARENT && memcmp(at, "00-", 3) == 0 && digits(at + 3, TRACE, true) &&
           at[35] == '-' && digits(at + 36, PARENT, true) && at[52] == '-' &&
           digits(at + 53, 2, false);
}

static void random_hex(uint8_t *out, size_t digits) {
    static const char HEX[] = "0123456789abcdef";
    reference_list_u8_t bytes;
    pillion_filter_random_bytes(digits / 2, &bytes);
    for (size_t at = 0; at < digits; at++) {
        uint8_t byte = bytes.ptr[at / 2];
        out[at] = HEX[at % 2 == 0 ? byte >> 4 : byte & 15];
    }
    reference_list_u8_free(&bytes);
}

static void refused(reference_string_t *path, pillion_filter_types_local_response_t *reply) {
    static const char SAID[] = "refused ";
    char *line = malloc(sizeof SAID + path->len);
    must(line != NULL);
    memcpy(line, SAID, sizeof SAID - 1);
    memcpy(line + sizeof SAID - 1, path->ptr, path->len);
    reference_string_t message = {(uint8_t *)line, sizeof SAID - 1 + path->len};
    pillion_filter_log_write(PILLION_FILTER_LOG_LEVEL_WARN, &message);
    free(line);

    reference_string_t type = own("text/plain");
    reference_string_t body = own("not for you\n");
    pillion_filter_types_field_t *field = malloc(sizeof *field);
    must(field != NULL);
    field->name = own("content-type");
    field->value = (reference_list_u8_t){type.ptr, type.len};
    reply->status = 403;
    reply->headers = (pillion_filter_types_list_field_t){field, 1};
    reply->body = (reference_list_u8_t){body.ptr, body.len};
}

// Continues the trace of the request, or starts one.
static void trace_on(void) {
    uint8_t value[TRACEPARENT] = "00-";
    reference_string_t name = NAME, note = NOTE;
    pillion_filter_request_edit_error_t edit_error;
    reference_list_string_t lines;
    pillion_filter_request_header_all(&name, &lines);
    if (lines.len == 1 && valid(lines.ptr[0])) {
        memcpy(value, lines.ptr[0].ptr, TRACEPARENT);
    } else {
        bool removed;
        reference_string_t state = lend("tracestate");
        must(pillion_filter_request_remove_header(&state, &removed, &edit_error));
        random_hex(value + 3, TRACE);
        memcpy(value + 52, "-01", 3);
    }
    reference_list_string_free(&lines);
    value[35] = '-';
    random_hex(value + 36, PARENT);
    reference_string_t whole = {value, TRACEPARENT}, trace = {value + 3, TRACE};
    must(pillion_filter_request_set_header(&name, &whole, &edit_error));
    pillion_filter_notes_note_error_t note_error;
    must(pillion_filter_notes_set_note(&note, &trace, &note_error));
}

void exports_pillion_filter_on_request_on_request(
    exports_pillion_filter_on_request_head_decision_t *ret) {
    reference_string_t path;
    pillion_filter_request_path(&path);
    if (equal(path, refuse)) {
        ret->tag = PILLION_FILTER_TYPES_HEAD_DECISION_RESPOND;
        refused(&path, &ret->val.respond);
    } else {
        ret->tag = PILLION_FILTER_TYPES_HEAD_DECISION_PROCEED;
        trace_on();
    }
    reference_string_free(&path);
}

void exports_pillion_filter_on_response_on_response(
    exports_pillion_filter_on_response_head_decision_t *ret) {
    reference_string_t note = NOTE, trace, name = lend("x-trace-id");
    if (pillion_filter_notes_note(&note, &trace)) {
        pillion_filter_response_edit_error_t edit_error;
        must(pillion_filter_response_set_header(&name, &trace, &edit_error));
        reference_string_free(&trace);
    }
    ret->tag = PILLION_FILTER_TYPES_HEAD_DECISION_PROCEED;
}
