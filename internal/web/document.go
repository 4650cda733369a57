package web

import (
	"bytes"
	"compress/gzip"
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

// document serves the last report as JSON. It is written once, for the first who asks, and kept packed: a report of 100,000
// entries has 60 MB, and packed 3.
type document struct {
	last  func() *audit.Report
	began time.Time

	mu     sync.Mutex
	of     *audit.Report
	turns  int // how many reports there were
	plain  []byte
	packed []byte
}

func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	report := d.last()
	if report == nil {
		refuse(w, http.StatusServiceUnavailable, "no audit has finished yet")
		return
	}
	plain, packed, turn, err := d.write(report)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "the report cannot be written as JSON")
		return
	}
	tag := fmt.Sprintf(`"%x-%d"`, d.began.UnixNano(), turn)
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept-Encoding")
	switch {
	case listed(r.Header.Get("If-None-Match"), tag):
		w.WriteHeader(http.StatusNotModified)
	case takesGzip(r):
		w.Header().Set("Content-Encoding", "gzip")
		answer(w, http.StatusOK, packed)
	case plain != nil:
		answer(w, http.StatusOK, plain)
	default:
		answer(w, http.StatusOK, nil)
		if r.Method == http.MethodGet {
			unpack(w, packed)
		}
	}
}

// write returns the report as JSON, the same packed, and which report of this process it is. Plain is nil where it is large.
func (d *document) write(r *audit.Report) (plain, packed []byte, turn int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == r {
		return d.plain, d.packed, d.turns, nil
	}
	var short, small bytes.Buffer
	zip, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := render.JSON(io.MultiWriter(zip, &capped{to: &short}), r); err != nil {
		return nil, nil, 0, err
	}
	if err := zip.Close(); err != nil {
		return nil, nil, 0, err
	}
	d.of, d.turns, d.plain, d.packed = r, d.turns+1, short.Bytes(), small.Bytes()
	return d.plain, d.packed, d.turns, nil
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

// listed tells whether an If-None-Match names the tag.
func listed(header, tag string) bool {
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
