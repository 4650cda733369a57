package anchor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// TestDocumentsOfADayProveTheirHead has updates that come after the first finality update of their period, as is common, while
// that finality update is served unchanged for minutes.
func TestDocumentsOfADayProveTheirHead(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.says(c, start, true)
	w.finalize(2*period + 5)
	w.says(c, 2*period+5, true)
	for range 3 {
		w.now = w.now.Add(time.Second)
		head := w.says(c, 2*period+5, true)
		again, err := head.Documents.Replay(w.now)
		if err != nil || again.Finalized != head.Finalized || again.Attested != head.Attested {
			t.Fatalf("%+v, %v", again, err)
		}
	}
}

// TestAnEndpointThatIsAnEpochBehind has an endpoint with several nodes, some of which are a few minutes behind.
func TestAnEndpointThatIsAnEpochBehind(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.finalize(start + 60)
	w.says(c, start+60, true)
	w.finalize(start + 50)
	w.now = w.now.Add(15 * time.Second)
	w.says(c, start+60, true)
}

// TestNoDocumentShowsTheKey has an endpoint that echoes the requested path.
func TestNoDocumentShowsTheKey(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{`{"version":"` + secret + `","data":{}}`, `{"` + secret + `":1,"` + secret + `":2}`, `"` + secret + `"`, secret} {
		c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write([]byte(body)) }))
		_, failed := c.Sync(t.Context(), common.Hash{}, w.now)
		for _, f := range failed {
			if strings.Contains(f.Error(), secret) {
				t.Errorf("%s: %s", body, f)
			}
		}
	}
}

// TestDocumentsProveTheirHeadWhereTheEndpointFailsInTheMiddle has an endpoint that fails during a Sync.
func TestDocumentsProveTheirHeadWhereTheEndpointFailsInTheMiddle(t *testing.T) {
	w := newWorld(t)
	var fails atomic.Bool
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if fails.Load() && strings.Contains(r.URL.Path, "finality") {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	w.says(c, start, true)
	w.finalize(3*period + 5)
	fails.Store(true)
	head, failed := c.Sync(t.Context(), common.Hash{}, w.now)
	again, err := head.Documents.Replay(w.now)
	if err != nil || again.Finalized != head.Finalized || again.Attested != head.Attested {
		t.Fatalf("%+v, %v\n%v", again, err, failed)
	}
}

// TestOneUpdateManyTimes checks that a repeated update is kept once.
func TestOneUpdateManyTimes(t *testing.T) {
	w := newWorld(t)
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		b := rec.Body.Bytes()
		if strings.Contains(r.URL.Path, "updates") {
			var all []json.RawMessage
			_ = json.Unmarshal(b, &all)
			for range 40 {
				all = append(all, all[len(all)-1])
			}
			b, _ = json.Marshal(all)
		}
		if strings.Contains(r.URL.Path, "bootstrap") && !strings.Contains(r.URL.Path, w.checkpoint.Hex()) {
			http.Error(rw, "no", 404)
			return
		}
		_, _ = rw.Write(b)
	}))
	for n := uint64(2); n < 6; n++ {
		w.finalize(n*period + 20)
		head, _ := c.Sync(t.Context(), common.Hash{}, w.now)
		if n := len(head.Documents.Updates); n > 10 {
			t.Fatalf("%d updates are kept", n)
		}
	}
}

// TestAnEndpointAfterASlowOne has documents that were signed while a slow endpoint was waited for.
func TestAnEndpointAfterASlowOne(t *testing.T) {
	w := newWorld(t)
	w.chain = beacon.New(beacon.Options{GenesisTime: uint64(time.Now().Unix()) - 700})
	w.network.GenesisTime = w.chain.GenesisTime
	h := header(500)
	h.Time = w.chain.GenesisTime + 500
	w.checkpoint = w.chain.Finalize(h)
	opt := anchor.Options{Network: w.network, Checkpoint: w.checkpoint}
	for i, h := range []http.HandlerFunc{
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		func(rw http.ResponseWriter, r *http.Request) {
			h := header(600)
			h.Time = uint64(time.Now().Unix()) - 1
			w.chain.Attest(h)
			w.ServeHTTP(rw, r)
		},
	} {
		opt.Endpoints = append(opt.Endpoints, anchor.Endpoint{Name: string(rune('a' + i)), URL: sanitize.NewSecret(testenv.Serve(t, h) + "/" + secret), Timeout: 4 * time.Second})
	}
	c, err := anchor.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	head, failed := c.Sync(t.Context(), common.Hash{}, time.Now())
	if head == nil || !head.Current || len(failed) != 1 {
		t.Fatalf("%v %v", head != nil, failed)
	}
}

// TestACheckpointOfZeros checks that a zero checkpoint is an error.
func TestACheckpointOfZeros(t *testing.T) {
	w := newWorld(t)
	w.checkpoint = common.Hash{}
	w.says(w.client(w), 0, false, "checkpoint")
}

// TestAnEndpointThatServesNoBootstrapLater checks that the kept documents do not grow by 57 kB a day without limit.
func TestAnEndpointThatServesNoBootstrapLater(t *testing.T) {
	w := newWorld(t)
	first := w.checkpoint
	c := w.client(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "bootstrap") && !strings.Contains(r.URL.Path, first.Hex()) {
			http.Error(rw, "LC bootstrap unavailable", 404)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	for n := uint64(2); n < 50; n++ {
		w.finalize(n * period)
		head, failed := c.Sync(t.Context(), common.Hash{}, w.now)
		if n == 49 {
			if updates := len(head.Documents.Updates); updates > 32 && len(failed) == 0 {
				t.Errorf("%d updates are kept without a failure", updates)
			}
		}
	}
}
