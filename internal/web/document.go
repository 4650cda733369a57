package web

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// keepPlain is the size up to which a report is kept as it is, and not packed alone.
const keepPlain = 8 << 20

// reportHandler serves the last report as JSON. It is written once, for the first who asks, and kept packed: a report of
// 100,000 entries has 60 MB, and packed 3.
type reportHandler struct {
	last    func() *audit.Report
	began   time.Time
	written cache[document]
}

// document is a report as JSON. Plain is nil where it is large.
type document struct{ plain, packed []byte }

func (h *reportHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := h.last()
	if report == nil {
		refuse(w, http.StatusServiceUnavailable, "no audit has finished yet")
		return
	}
	d, turn, err := h.written.get(report, newDocument)
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

// capped keeps what is written, and nothing of what is more than keepPlain.
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

func unpack(w io.Writer, packed []byte) {
	if zip, err := gzip.NewReader(bytes.NewReader(packed)); err == nil { // our own
		_, _ = io.Copy(w, zip) // #nosec G110 -- packed here; whoever asked has gone
	}
}

// matches reports whether an If-None-Match names the tag.
func matches(header, tag string) bool {
	return slices.ContainsFunc(strings.Split(header, ","), func(one string) bool {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		return one == tag || one == "*"
	})
}

// takesGzip tells whether the answer may be packed.
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

// cache keeps what was rendered of the last report.
type cache[T any] struct {
	mu    sync.Mutex
	of    *audit.Report
	turns int // how many reports were rendered
	value T
}

// get renders the report, unless it was the last one, and returns the number of it.
func (c *cache[T]) get(r *audit.Report, render func(*audit.Report) (T, error)) (value T, turn int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turns == 0 || c.of != r {
		if value, err = render(r); err != nil {
			return value, 0, err
		}
		c.of, c.turns, c.value = r, c.turns+1, value
	}
	return c.value, c.turns, nil
}
