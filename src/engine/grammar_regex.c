// SPDX-License-Identifier: Apache-2.0
// Read into a tree, drawn as a nondeterministic automaton (Thompson: Regular Expression Search
// Algorithm, 1968), made deterministic. Anchors are letters of their own that are taken out again.
#include "engine/grammar_regex.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define LETTER_BEGIN  0x110000u
#define LETTER_END    0x110001u
#define NONE          UINT32_MAX
#define INFINITE      UINT32_MAX
#define NODES_MAX     ((size_t)1 << 17)
#define RANGES_MAX    ((size_t)1 << 17)
#define SET_MAX       256u              // ranges of one class
#define NFA_NODES_MAX ((size_t)1 << 17) // states that one expression may be drawn with

enum node_kind { NODE_SET, NODE_SEQUENCE, NODE_CHOICE, NODE_REPEAT };

struct node {
    enum node_kind kind;
    uint32_t first; // child, or range
    uint32_t last;  // child
    uint32_t n;     // ranges
    uint32_t next;  // sibling
    uint32_t min, max;
};

struct range {
    uint32_t lo, hi;
};

struct regex {
    struct slice text;
    size_t at;
    struct node *nodes;
    size_t n, capacity;
    struct range *ranges;
    size_t n_ranges, ranges_capacity;
    struct range set[SET_MAX]; // being read
    size_t n_set;
    bool has_anchors;
    uint32_t depth;
    const char *where;
    struct carat_error *err;
};

static int refuse(struct regex *r, enum carat_status status, const char *what)
{
    return fail(r->err, status, "%s: at byte %zu of the regular expression: %s", r->where, r->at,
                what);
}

// ------------------------------------------------------------------------------ the tree

static int add_node(struct regex *r, struct node node, uint32_t *out)
{
    void *nodes = r->nodes;
    const int rc =
        list_room(&nodes, &r->capacity, r->n, sizeof(*r->nodes), NODES_MAX, "parts", r->err);
    r->nodes = nodes;
    if (rc == 0) {
        node.next = NONE;
        r->nodes[r->n] = node;
        *out = (uint32_t)r->n++;
    }
    return rc;
}

static void add_child(struct regex *r, uint32_t parent, uint32_t child)
{
    struct node *p = &r->nodes[parent];
    if (p->first == NONE) {
        p->first = child;
    } else {
        r->nodes[p->last].next = child;
    }
    p->last = child;
}

static int put_range(struct regex *r, uint32_t lo, uint32_t hi)
{
    if (r->n_set == SET_MAX) {
        return refuse(r, CARAT_E_FULL, "too many ranges in one class");
    }
    r->set[r->n_set++] = (struct range){.lo = lo, .hi = hi};
    return 0;
}

static void sort_set(struct regex *r)
{
    for (size_t i = 1; i < r->n_set; i++) {
        const struct range x = r->set[i];
        size_t k = i;
        for (; k > 0 && r->set[k - 1].lo > x.lo; k--) {
            r->set[k] = r->set[k - 1];
        }
        r->set[k] = x;
    }
}

// In order, apart from each other.
static void merge_set(struct regex *r)
{
    size_t n = 0;
    sort_set(r);
    for (size_t i = 0; i < r->n_set; i++) {
        if (n > 0 && r->set[i].lo <= r->set[n - 1].hi + 1) {
            r->set[n - 1].hi = r->set[i].hi > r->set[n - 1].hi ? r->set[i].hi : r->set[n - 1].hi;
        } else {
            r->set[n++] = r->set[i];
        }
    }
    r->n_set = n;
}

static int negate_set(struct regex *r)
{
    struct range old[SET_MAX];
    merge_set(r);
    const size_t n = r->n_set;
    memcpy(old, r->set, n * sizeof(*old));
    r->n_set = 0;
    uint32_t next = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (old[i].lo > next) {
            rc = put_range(r, next, old[i].lo - 1);
        }
        next = old[i].hi + 1;
    }
    return rc == 0 && next <= LETTER_MAX ? put_range(r, next, LETTER_MAX) : rc;
}

static int end_set(struct regex *r, uint32_t *out)
{
    merge_set(r);
    struct node node = {.kind = NODE_SET, .first = (uint32_t)r->n_ranges, .n = (uint32_t)r->n_set};
    for (size_t i = 0; i < r->n_set; i++) {
        void *ranges = r->ranges;
        const int rc = list_room(&ranges, &r->ranges_capacity, r->n_ranges, sizeof(*r->ranges),
                                 RANGES_MAX, "ranges", r->err);
        r->ranges = ranges;
        if (rc) {
            return rc;
        }
        r->ranges[r->n_ranges++] = r->set[i];
    }
    r->n_set = 0;
    return add_node(r, node, out);
}

// ------------------------------------------------------------------------------ characters

static bool is_at(const struct regex *r, const char *text)
{
    return slice_starts(slice_make(r->text.data + r->at, r->text.size - r->at), text);
}

static bool take(struct regex *r, const char *text)
{
    if (!is_at(r, text)) {
        return false;
    }
    r->at += strlen(text);
    return true;
}

static int take_character(struct regex *r, uint32_t *c)
{
    const int length = utf8_next(r->text.data + r->at, r->text.size - r->at, c);
    if (length <= 0) {
        return refuse(r, CARAT_E_FORMAT, "expected UTF-8");
    }
    r->at += (size_t)length;
    return 0;
}

static int take_hex(struct regex *r, size_t n_min, size_t n_max, uint32_t *out)
{
    uint32_t value = 0;
    size_t n = 0;
    for (; n < n_max && r->at < r->text.size; n++, r->at++) {
        const char c = r->text.data[r->at];
        const char low = (char)(c | 32);
        if (c >= '0' && c <= '9') {
            value = value * 16 + (uint32_t)(c - '0');
        } else if (low >= 'a' && low <= 'f') {
            value = value * 16 + (uint32_t)(low - 'a' + 10);
        } else {
            break;
        }
    }
    if (n < n_min || value > LETTER_MAX) {
        return refuse(r, CARAT_E_FORMAT, "expected hexadecimal digits of a character");
    }
    *out = value;
    return 0;
}

// The class of \d, \w or \s joins the set. Words and digits are ASCII, as in ECMAScript.
static int put_named(struct regex *r, char name)
{
    static const struct range digits[] = {{'0', '9'}};
    static const struct range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const struct range spaces[] = {
        {9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
        {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    const char low = (char)(name | 32);
    const struct range *ranges = low == 'd' ? digits : low == 'w' ? words : spaces;
    const size_t n = low == 'd' ? 1 : low == 'w' ? 4 : 10;
    const bool is_negative = low != name;
    uint32_t next = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = is_negative ? put_range(r, next, ranges[i].lo - 1)
                         : put_range(r, ranges[i].lo, ranges[i].hi);
        next = ranges[i].hi + 1;
    }
    return is_negative && rc == 0 ? put_range(r, next, LETTER_MAX) : rc;
}

// After a backslash: a character in *c, or a class, which joins the set, with *is_class.
static int take_escape(struct regex *r, uint32_t *c, bool *is_class)
{
    static const char letters[] = "nrtfv0";
    static const char meanings[] = "\n\r\t\f\v";
    *is_class = false;
    if (r->at == r->text.size) {
        return refuse(r, CARAT_E_FORMAT, "expected a character after \\");
    }
    const char name = r->text.data[r->at];
    const char *letter = strchr(letters, name);
    if (memchr("dDwWsS", name, 6)) {
        r->at++;
        *is_class = true;
        return put_named(r, name);
    }
    if (letter && name) {
        r->at++;
        *c = (uint8_t)meanings[letter - letters];
        return 0;
    }
    if (name == 'x' || name == 'u') {
        r->at++;
        if (name == 'u' && take(r, "{")) {
            const int rc = take_hex(r, 1, 6, c);
            return rc || take(r, "}") ? rc : refuse(r, CARAT_E_FORMAT, "expected }");
        }
        return take_hex(r, name == 'x' ? 2 : 4, name == 'x' ? 2 : 4, c);
    }
    const bool is_alphanumeric =
        (name >= '0' && name <= '9') || ((name | 32) >= 'a' && (name | 32) <= 'z');
    if (is_alphanumeric) {
        return refuse(r, CARAT_E_UNSUPPORTED,
                      "expected \\d \\w \\s \\n \\r \\t \\f \\v \\0 \\x \\u or an escaped sign; "
                      "back references, \\b and \\p are not supported");
    }
    return take_character(r, c);
}

static int take_class_item(struct regex *r, uint32_t *c, bool *is_class)
{
    *is_class = false;
    if (!take(r, "\\")) {
        return take_character(r, c);
    }
    if (take(r, "b")) {
        *c = 8;
        return 0;
    }
    if (take(r, "-")) {
        *c = '-';
        return 0;
    }
    return take_escape(r, c, is_class);
}

static int take_class(struct regex *r, uint32_t *out)
{
    const bool is_negative = take(r, "^");
    int rc = 0;
    while (rc == 0 && !take(r, "]")) {
        if (r->at == r->text.size) {
            return refuse(r, CARAT_E_FORMAT, "expected ] at the end of a class");
        }
        uint32_t lo = 0;
        uint32_t hi = 0;
        bool is_class = false;
        rc = take_class_item(r, &lo, &is_class);
        if (rc || is_class) {
            continue;
        }
        hi = lo;
        if (is_at(r, "-") && r->at + 1 < r->text.size && r->text.data[r->at + 1] != ']') {
            r->at++;
            rc = take_class_item(r, &hi, &is_class);
            if (rc == 0 && (is_class || hi < lo)) {
                return refuse(r, CARAT_E_FORMAT, "expected a range in order");
            }
        }
        rc = rc ? rc : put_range(r, lo, hi);
    }
    if (rc == 0 && is_negative) {
        rc = negate_set(r);
    }
    return rc ? rc : end_set(r, out);
}

// ------------------------------------------------------------------------------ reading

static int take_choice(struct regex *r, uint32_t *out);

static int take_group(struct regex *r, uint32_t *out)
{
    if (take(r, "?<") && (is_at(r, "=") || is_at(r, "!"))) {
        return refuse(r, CARAT_E_UNSUPPORTED, "looking behind is not supported");
    }
    if (r->at > 1 && r->text.data[r->at - 1] == '<' && r->text.data[r->at - 2] == '?') {
        while (r->at < r->text.size && !take(r, ">")) { // a name
            r->at++;
        }
    } else if (take(r, "?") && !take(r, ":")) {
        return refuse(r, CARAT_E_UNSUPPORTED, "looking ahead and flags are not supported");
    }
    if (++r->depth > REGEX_DEPTH_MAX) {
        return refuse(r, CARAT_E_FULL, "groups are nested too deeply");
    }
    const int rc = take_choice(r, out);
    r->depth--;
    if (rc == 0 && !take(r, ")")) {
        return refuse(r, CARAT_E_FORMAT, "expected )");
    }
    return rc;
}

static int take_atom(struct regex *r, uint32_t *out)
{
    uint32_t c = 0;
    bool is_class = false;
    int rc = 0;
    if (take(r, "(")) {
        return take_group(r, out);
    }
    if (take(r, "[")) {
        return take_class(r, out);
    }
    if (is_at(r, "*") || is_at(r, "+") || is_at(r, "?")) {
        return refuse(r, CARAT_E_FORMAT, "nothing to repeat");
    }
    if (take(r, "^") || take(r, "$")) {
        const uint32_t letter = r->text.data[r->at - 1] == '^' ? LETTER_BEGIN : LETTER_END;
        r->has_anchors = true;
        rc = put_range(r, letter, letter);
    } else if (take(r, ".")) { // but the ends of a line
        rc = put_range(r, 0, 9);
        rc = rc ? rc : put_range(r, 11, 12);
        rc = rc ? rc : put_range(r, 14, 0x2027);
        rc = rc ? rc : put_range(r, 0x202A, LETTER_MAX);
    } else if (take(r, "\\")) {
        rc = take_escape(r, &c, &is_class);
        rc = rc || is_class ? rc : put_range(r, c, c);
    } else {
        rc = take_character(r, &c);
        rc = rc ? rc : put_range(r, c, c);
    }
    return rc ? rc : end_set(r, out);
}

static bool take_number(struct regex *r, uint32_t *out)
{
    const size_t begin = r->at;
    uint32_t value = 0;
    while (r->at < r->text.size && r->text.data[r->at] >= '0' && r->text.data[r->at] <= '9') {
        value =
            value > REGEX_REPEAT_MAX ? value : value * 10 + (uint32_t)(r->text.data[r->at] - '0');
        r->at++;
    }
    *out = value;
    return r->at > begin;
}

// {n}, {n,} or {n,m}; anything else in braces is text.
static bool take_braces(struct regex *r, uint32_t *min, uint32_t *max)
{
    const size_t begin = r->at;
    bool is_right = take(r, "{") && take_number(r, min);
    *max = *min;
    if (is_right && take(r, ",") && !take_number(r, max)) {
        *max = INFINITE;
    }
    is_right = is_right && take(r, "}");
    r->at = is_right ? r->at : begin;
    return is_right;
}

static int take_repeated(struct regex *r, uint32_t *out)
{
    int rc = take_atom(r, out);
    while (rc == 0) {
        struct node node = {.kind = NODE_REPEAT, .first = *out, .max = INFINITE};
        if (take(r, "+")) {
            node.min = 1;
        } else if (take(r, "?")) {
            node.max = 1;
        } else if (!take(r, "*") && !take_braces(r, &node.min, &node.max)) {
            return 0;
        }
        take(r, "?"); // lazy or not is the same for a whole text
        if (node.min > node.max) {
            return refuse(r, CARAT_E_FORMAT, "expected the bounds of a repetition in order");
        }
        if (node.min > REGEX_REPEAT_MAX || (node.max > REGEX_REPEAT_MAX && node.max != INFINITE)) {
            return refuse(r, CARAT_E_FULL, "more repetitions than 4096");
        }
        rc = add_node(r, node, out);
    }
    return rc;
}

static int take_sequence(struct regex *r, uint32_t *out)
{
    int rc = add_node(r, (struct node){.kind = NODE_SEQUENCE, .first = NONE}, out);
    while (rc == 0 && r->at < r->text.size && !is_at(r, "|") && !is_at(r, ")")) {
        uint32_t item = 0;
        rc = take_repeated(r, &item);
        if (rc == 0) {
            add_child(r, *out, item);
        }
    }
    return rc;
}

static int take_choice(struct regex *r, uint32_t *out)
{
    int rc = add_node(r, (struct node){.kind = NODE_CHOICE, .first = NONE}, out);
    do {
        uint32_t item = 0;
        rc = rc ? rc : take_sequence(r, &item);
        if (rc == 0) {
            add_child(r, *out, item);
        }
    } while (rc == 0 && take(r, "|"));
    return rc;
}

// ------------------------------------------------------------------------------ drawing

static uint32_t draw(const struct regex *r, struct nfa *nfa, uint32_t node, uint32_t from);

static uint32_t draw_repeat(const struct regex *r, struct nfa *nfa, const struct node *node,
                            uint32_t from)
{
    for (uint32_t i = 0; i < node->min && nfa->rc == 0; i++) {
        from = draw(r, nfa, node->first, from);
    }
    if (node->max == INFINITE) {
        const uint32_t loop = nfa_state(nfa);
        nfa_empty(nfa, from, loop);
        nfa_empty(nfa, draw(r, nfa, node->first, loop), loop);
        return loop;
    }
    const uint32_t end = nfa_state(nfa);
    for (uint32_t i = node->min; i < node->max && nfa->rc == 0; i++) {
        nfa_empty(nfa, from, end);
        from = draw(r, nfa, node->first, from);
    }
    nfa_empty(nfa, from, end);
    return end;
}

// Gives the state behind. As deep as groups nest.
static uint32_t draw(const struct regex *r, struct nfa *nfa, uint32_t index, uint32_t from)
{
    const struct node *node = &r->nodes[index];
    if (nfa->rc) {
        return 0;
    }
    if (nfa->n_states > NFA_NODES_MAX) {
        nfa->rc = fail(r->err, CARAT_E_FULL, "%s: the regular expression is too large", r->where);
        return 0;
    }
    if (node->kind == NODE_SEQUENCE) {
        for (uint32_t i = node->first; i != NONE; i = r->nodes[i].next) {
            from = draw(r, nfa, i, from);
        }
        return from;
    }
    if (node->kind == NODE_REPEAT) {
        return draw_repeat(r, nfa, node, from);
    }
    const uint32_t end = nfa_state(nfa);
    if (node->kind == NODE_CHOICE) {
        for (uint32_t i = node->first; i != NONE; i = r->nodes[i].next) {
            const uint32_t begin = nfa_state(nfa); // a loop at the beginning stays its own
            nfa_empty(nfa, from, begin);
            nfa_empty(nfa, draw(r, nfa, i, begin), end);
        }
        return end;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        nfa_edge(nfa, from, r->ranges[node->first + i].lo, r->ranges[node->first + i].hi, end);
    }
    return end;
}

// One or more letters in a circle.
static void draw_loop(struct nfa *nfa, uint32_t state, uint32_t lo, uint32_t hi)
{
    nfa_edge(nfa, state, lo, hi, state);
}

static int make_marked(struct dfa *out, const struct regex *r, uint32_t root, bool is_search)
{
    struct nfa nfa = {.err = r->err};
    const uint32_t start = nfa_state(&nfa);
    const uint32_t begin = nfa_state(&nfa);
    nfa_empty(&nfa, start, begin);
    const uint32_t behind = draw(r, &nfa, root, begin);
    const uint32_t end = nfa_state(&nfa);
    nfa_empty(&nfa, behind, end);
    if (is_search) {
        draw_loop(&nfa, start, 0, LETTER_MAX);
        draw_loop(&nfa, end, 0, LETTER_MAX);
    }
    if (r->has_anchors) {
        draw_loop(&nfa, start, LETTER_BEGIN, LETTER_BEGIN);
        draw_loop(&nfa, end, LETTER_END, LETTER_END);
    }
    const int rc = nfa_determine(out, &nfa, start, end, DFA_STATES_MAX, r->err);
    nfa_release(&nfa);
    return rc;
}

// Beginnings, then characters, then ends.
static int make_order(struct dfa *out, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    const uint32_t begin = nfa_state(&nfa);
    const uint32_t middle = nfa_state(&nfa);
    const uint32_t end = nfa_state(&nfa);
    draw_loop(&nfa, begin, LETTER_BEGIN, LETTER_BEGIN);
    nfa_empty(&nfa, begin, middle);
    draw_loop(&nfa, middle, 0, LETTER_MAX);
    nfa_empty(&nfa, middle, end);
    draw_loop(&nfa, end, LETTER_END, LETTER_END);
    const int rc = nfa_determine(out, &nfa, begin, end, 16, err);
    nfa_release(&nfa);
    return rc;
}

// Reading no letter where there was an anchor.
static int drop_anchors(struct dfa *out, const struct dfa *marked, struct carat_error *err)
{
    struct nfa nfa = {.err = err};
    for (size_t i = 0; i < marked->n_states; i++) {
        nfa_state(&nfa);
    }
    const uint32_t end = nfa_state(&nfa);
    for (uint32_t i = 0; i < marked->n_states && nfa.rc == 0; i++) {
        const struct dfa_state *s = &marked->states[i];
        for (size_t k = 0; k < s->n_edges; k++) {
            const struct dfa_edge e = marked->edges[s->edge + k];
            if (e.lo > LETTER_MAX) {
                nfa_empty(&nfa, i, e.to);
            } else {
                nfa_edge(&nfa, i, e.lo, e.hi, e.to);
            }
        }
        if (s->is_final) {
            nfa_empty(&nfa, i, end);
        }
    }
    const int rc = nfa_determine(out, &nfa, 0, end, DFA_STATES_MAX, err);
    nfa_release(&nfa);
    return rc;
}

static int make(struct dfa *out, const struct regex *r, uint32_t root, bool is_search)
{
    if (!r->has_anchors) {
        return make_marked(out, r, root, is_search);
    }
    struct dfa marked = {0};
    struct dfa order = {0};
    struct dfa both = {0};
    int rc = make_marked(&marked, r, root, is_search);
    rc = rc ? rc : make_order(&order, r->err);
    rc = rc ? rc : dfa_product(&both, &marked, &order, false, r->err);
    rc = rc ? rc : drop_anchors(out, &both, r->err);
    dfa_release(&marked);
    dfa_release(&order);
    dfa_release(&both);
    return rc;
}

int regex_compile(struct dfa *out, struct slice text, bool is_search, const char *where,
                  struct carat_error *err)
{
    struct regex *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    *r = (struct regex){.text = text.data ? text : slice_of(""), .where = where, .err = err};
    struct dfa dfa = {0};
    uint32_t root = 0;
    int rc = take_choice(r, &root);
    if (rc == 0 && r->at < text.size) {
        rc = refuse(r, CARAT_E_FORMAT, "a ) closes nothing");
    }
    rc = rc ? rc : make(&dfa, r, root, is_search);
    if (rc == 0) {
        dfa_mark_free(&dfa);
        *out = dfa;
    }
    mem_free(r->nodes);
    mem_free(r->ranges);
    mem_free(r);
    return rc;
}
