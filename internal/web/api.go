package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

// keepPlain is the size in bytes up to which a report is kept uncompressed too.
const keepPlain = 8 << 20

// reportHandler serves the last report as JSON. The first request encodes it, and later ones reuse the compressed result: a
// report of 100,000 entries has 60 MB, compressed 3 MB.
type reportHandler struct {
	last    func() *audit.Report
	began   time.Time
	written cache[*audit.Report, document]
}

// document is a report as JSON. plain is nil if the report is large.
type document struct{ plain, packed []byte }

func (h *reportHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := h.last()
	if report == nil {
		refuse(w, http.StatusServiceUnavailable, "no audit has finished yet")
		return
	}
	d, turn, err := h.written.get(report, func() (document, error) { return newDocument(report) })
	if err != nil {
		refuse(w, http.StatusInternalServerError, "the report cannot be written as JSON")
		return
	}
	tag := fmt.Sprintf(`"%x-%d"`, h.began.UnixNano(), turn)
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept-Encoding")
	switch {
	case matches(r.Header.Get("If-None-Match"), tag):
		w.WriteHeader(http.StatusNotModified)
	case takesGzip(r):
		w.Header().Set("Content-Encoding", "gzip")
		answer(w, http.StatusOK, d.packed)
	case d.plain != nil:
		answer(w, http.StatusOK, d.plain)
	default:
		answer(w, http.StatusOK, nil)
		if r.Method == http.MethodGet {
			unpack(w, d.packed)
		}
	}
}

func newDocument(r *audit.Report) (document, error) {
	var plain, packed bytes.Buffer
	zip, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is a valid one
	if err := errors.Join(render.JSON(io.MultiWriter(zip, &capped{to: &plain}), r), zip.Close()); err != nil {
		return document{}, err
	}
	return document{plain.Bytes(), packed.Bytes()}, nil
}

func unpack(w io.Writer, packed []byte) {
	if zip, err := gzip.NewReader(bytes.NewReader(packed)); err == nil { // newDocument made it
		_, _ = io.Copy(w, zip) // #nosec G110 -- newDocument made it; an error means that the client has gone
	}
}

// capped keeps written data up to keepPlain bytes, and drops all of it if there is more.
type capped struct {
	to   *bytes.Buffer
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.over = c.over || c.to.Len()+len(p) > keepPlain; c.over {
		*c.to = bytes.Buffer{}
	} else {
		c.to.Write(p)
	}
	return len(p), nil
}

// matches reports whether an If-None-Match names the tag.
func matches(header, tag string) bool {
	return slices.ContainsFunc(strings.Split(header, ","), func(one string) bool {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		return one == tag || one == "*"
	})
}

// takesGzip reports whether the answer may be compressed.
func takesGzip(r *http.Request) bool {
	for one := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(strings.ToLower(one), ";")
		if strings.TrimSpace(coding) == "gzip" {
			weight = strings.ReplaceAll(weight, " ", "")
			return !strings.HasPrefix(weight, "q=0") || strings.Trim(weight, "q=0.") != ""
		}
	}
	return false
}

// cache keeps the value of the last key.
type cache[K comparable, T any] struct {
	mu    sync.Mutex
	key   K
	turns int // how many values were made
	value T
}

// get makes the value unless it has that of the key, and returns the value's number.
func (c *cache[K, T]) get(key K, newValue func() (T, error)) (value T, turn int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turns == 0 || c.key != key {
		if value, err = newValue(); err != nil {
			return value, 0, err
		}
		c.key, c.turns, c.value = key, c.turns+1, value
	}
	return c.value, c.turns, nil
}

// The default and the maximum of the query parameter limit of /api/v1/history.
const (
	someChanges = 100
	mostChanges = 10_000
	shownLists  = 4 // of state.Lists, if the query names none
)

func timeline(s *state.State) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, err := filter(s, r.URL.RawQuery)
		if err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
		var body bytes.Buffer
		if err := render.Show(&body, s.Timeline(f), render.TextOptions{}, true); err != nil {
			refuse(w, http.StatusInternalServerError, "the history cannot be written as JSON")
			return
		}
		answer(w, http.StatusOK, body.Bytes())
	}
}

// filter reads a query. An unknown parameter is an error, because ignoring it would return more than was asked for.
func filter(s *state.State, query string) (state.Filter, error) {
	f := state.Filter{Lists: state.Lists[:shownLists], Limit: someChanges}
	values, err := url.ParseQuery(query)
	if err != nil {
		return f, errors.New("the query cannot be read")
	}
	for name, given := range values {
		value := given[0]
		switch {
		case name == "list":
			f.Lists = given
			if i := slices.IndexFunc(given, func(l string) bool { return !slices.Contains(state.Lists, l) }); i >= 0 {
				err = fmt.Errorf("list %s must be one of %s", sanitize.Quote(given[i]), strings.Join(state.Lists, ", "))
			}
		case len(given) > 1:
			err = fmt.Errorf("%s is given more than once", sanitize.Quote(name))
		case name == "chain":
			if f.Chain = value; !slices.Contains(s.Chains(), value) {
				err = fmt.Errorf("chain %s is not configured", sanitize.Quote(value))
			}
		case name == "contract":
			if f.Contract, err = sanitize.ParseAddress(value); err != nil {
				err = fmt.Errorf("contract %s is no address", sanitize.Quote(value))
			}
		case name == "since":
			f.Since, err = parseSince(value)
		case name == "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 || f.Limit > mostChanges {
				err = fmt.Errorf("limit %s is not a number from 1 to %d", sanitize.Quote(value), mostChanges)
			}
		default:
			err = fmt.Errorf("unknown parameter %s: use chain, contract, list, since or limit", sanitize.Quote(name))
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func parseSince(s string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("since %s is invalid: use a date (2026-12-31) or an RFC 3339 time", sanitize.Quote(s))
}

func refuse(w http.ResponseWriter, status int, why string) {
	body, _ := json.Marshal(map[string]string{"error": why}) // a string always encodes
	answer(w, status, append(body, '\n'))
}

// answer sends JSON.
func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}
