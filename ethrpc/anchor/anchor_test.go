package anchor_test

import (
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

const (
	genesis = 1_700_000_000
	period  = 512            // slots, of a second
	secret  = "canary-7f3a"  // in the endpoints' URLs
	start   = period + 100   // the slot of the checkpoint
	day     = 24 * time.Hour // of slots of a second
	slow    = 50 * time.Millisecond
)

// world is a beacon chain with a clock that the test sets.
type world struct {
	t          *testing.T
	chain      *beacon.Chain
	network    consensus.Network
	checkpoint common.Hash
	now        time.Time
	asked      atomic.Int64
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, chain: beacon.New(beacon.Options{GenesisTime: genesis})}
	var err error
	if w.network, err = consensus.NetworkFromSpec(w.chain.Spec()); err != nil {
		t.Fatal(err)
	}
	w.checkpoint = w.finalize(start)
	return w
}

// finalize finalizes the block of a slot, and sets the clock to a few seconds later.
func (w *world) finalize(slot uint64) common.Hash {
	w.now = time.Unix(genesis+int64(slot)+10, 0)
	return w.chain.Finalize(header(slot))
}

// header is the execution header of a slot: its block has the slot's number.
func header(slot uint64) *types.Header {
	return &types.Header{
		Number: new(big.Int).SetUint64(slot), Time: genesis + slot, ParentHash: common.Hash{1}, BaseFee: big.NewInt(7),
		WithdrawalsHash: new(common.Hash), BlobGasUsed: new(uint64), ExcessBlobGas: new(uint64),
	}
}

// client returns a Client of endpoints named a, b, c, with the timeout slow.
func (w *world) client(handlers ...http.Handler) *anchor.Client {
	w.t.Helper()
	opt := anchor.Options{Network: w.network, Checkpoint: w.checkpoint}
	for i, h := range handlers {
		url := testenv.Serve(w.t, h) + "/" + secret + "/?key=" + secret
		opt.Endpoints = append(opt.Endpoints, anchor.Endpoint{Name: string(rune('a' + i)), URL: sanitize.NewSecret(url), Timeout: 60 * slow})
	}
	c, err := anchor.New(opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// ServeHTTP is an honest endpoint.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.asked.Add(1)
	http.StripPrefix("/"+secret, w.chain).ServeHTTP(rw, r)
}

// says checks a client's Head and errors after a Sync, and that the errors show no secret.
func (w *world) says(c *anchor.Client, final uint64, current bool, errors ...string) *anchor.Head {
	w.t.Helper()
	head, failed := c.Sync(w.t.Context(), common.Hash{}, w.now)
	if (head == nil) != (final == 0) || head != nil && (head.Finalized.BlockNumber != final || head.Current != current) {
		w.t.Fatalf("%+v, %v; want slot %d, current: %t", head, failed, final, current)
	}
	if len(failed) != len(errors) {
		w.t.Fatalf("%v, want %q", failed, errors)
	}
	for i, f := range failed {
		if said := f.Error(); !strings.Contains(said, errors[i]) || strings.Contains(said, secret) {
			w.t.Errorf("%s, want %q", said, errors[i])
		}
	}
	return head
}

func TestAClientFollowsTheChain(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.says(c, start, true)
	if n := w.asked.Swap(0); n != 3 {
		t.Errorf("the first time takes %d requests, want bootstrap, update and finality", n)
	}
	w.says(c, start, true)
	if n := w.asked.Swap(0); n != 1 {
		t.Errorf("nothing new takes %d requests", n)
	}
	w.finalize(5 * period) // several periods without a Sync
	head := w.says(c, 5*period, true)
	again, err := head.Documents.Replay(w.now)
	if err != nil || again.Finalized != head.Finalized || again.Attested != head.Attested {
		t.Errorf("from the documents: %+v, %v", again, err)
	}
	if _, err := head.Documents.Replay(w.now.Add(-time.Second)); err == nil {
		t.Error("Replay accepts documents that are newer than the audit")
	}
	for n := uint64(6); n < 30; n++ { // a month
		w.finalize(n * period)
		head = w.says(c, n*period, true)
	}
	if n := len(head.Documents.Updates); n > 10 {
		t.Errorf("%d updates are kept", n)
	}
	if again, err := head.Documents.Replay(w.now); err != nil || again.Finalized != head.Finalized {
		t.Errorf("a month later, from the documents: %+v, %v", again, err)
	}
}

func TestANewProcessGoesOnFromWhatIsRemembered(t *testing.T) {
	w := newWorld(t)
	remembered := w.finalize(20 * period)
	w.finalize(20*period + 50)
	head, failed := w.client(w).Sync(t.Context(), remembered, w.now)
	if head == nil || len(failed) > 0 || head.Documents.Checkpoint != remembered || head.Finalized.BlockNumber != 20*period+50 {
		t.Errorf("%+v, %v", head, failed)
	}
	// If the endpoint no longer serves it, the configured checkpoint is used.
	head, failed = w.client(w).Sync(t.Context(), common.Hash{1}, w.now)
	if head == nil || len(failed) > 0 || head.Documents.Checkpoint != w.checkpoint {
		t.Errorf("%+v, %v", head, failed)
	}
}

func TestACheckpointThatIsTooOld(t *testing.T) {
	w := newWorld(t)
	c := w.client(w)
	w.says(c, start, true)
	w.finalize(start + uint64(15*day/time.Second)) // 15 days without a Sync
	w.says(c, 0, false, "more than 14 days ago", "more than 14 days ago")
	w.says(w.client(w), 0, false, "set a new checkpoint: the root of a block that was finalized today")
	w.checkpoint = w.chain.Finalize(header(start + uint64(15*day/time.Second)))
	w.says(w.client(w), start+uint64(15*day/time.Second), true)
}

// TestEndpointsThatMisbehave checks that a failing endpoint is named and the next one is asked.
func TestEndpointsThatMisbehave(t *testing.T) {
	answer := func(status int, contentType, body string) func(*world, http.ResponseWriter, *http.Request) {
		return func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", contentType)
			rw.WriteHeader(status)
			_, _ = rw.Write([]byte(body))
		}
	}
	// changed serves the chain's answers, but changes one document.
	changed := func(what string, change func(string) string) func(*world, http.ResponseWriter, *http.Request) {
		return func(w *world, rw http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			http.StripPrefix("/"+secret, w.chain).ServeHTTP(rec, r)
			body := rec.Body.String()
			if strings.Contains(r.URL.Path, what) {
				body = change(body)
			}
			_, _ = rw.Write([]byte(body))
		}
	}
	for _, row := range []struct {
		sentence string
		serve    func(*world, http.ResponseWriter, *http.Request)
		says     string
	}{
		{"it is down", answer(503, "text/plain", "down for a while"), `HTTP status 503: "down for a while"`},
		{"it wants a key, and shows ours", answer(401, "text/plain", "bad key "+secret), "HTTP status 401"},
		{"it does not have the checkpoint", answer(404, "application/json", `{"code":404,"message":"LC bootstrap unavailable"}`), "HTTP status 404"},
		{"it answers HTML", answer(200, "text/html", "<html>"), "invalid character '<'"},
		{"it answers nothing", answer(200, "application/json", ""), "EOF"},
		{"it redirects", func(_ *world, rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "redirects are refused"},
		{"its answer never ends", func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			for range 2 << 10 {
				_, _ = rw.Write([]byte(strings.Repeat(" ", 1<<10)))
			}
		}, "has more than"},
		{"it is slow", func(_ *world, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
		{"it cuts the bootstrap short", changed("bootstrap", func(s string) string { return s[:len(s)/2] }), "EOF"},
		{"it cuts the updates short", changed("updates", func(s string) string { return s[:len(s)/2] }), "EOF"},
		{"its finality update is of another block", changed("finality_update", func(s string) string {
			return strings.Replace(s, `"block_number":"`, `"block_number":"1`, 1)
		}), "the execution header is not proven by the beacon block"},
		{"its bootstrap is of another block", changed("bootstrap", func(s string) string {
			return strings.Replace(s, `"proposer_index":"1"`, `"proposer_index":"2"`, 1)
		}), "it is of another block"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			w := newWorld(t)
			bad := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { row.serve(w, rw, r) })
			w.says(w.client(bad), map[bool]uint64{true: start}[strings.Contains(row.sentence, "updates short") || strings.Contains(row.sentence, "finality")], false, row.says)
			w.says(w.client(bad, w), start, true, row.says)
		})
	}
}

// TestAnEndpointThatHoldsBlocksBack checks that old but valid documents are not up to date.
func TestAnEndpointThatHoldsBlocksBack(t *testing.T) {
	w := newWorld(t)
	old := beacon.New(beacon.Options{GenesisTime: genesis})
	old.Finalize(header(start))
	behind := http.StripPrefix("/"+secret, old)
	w.finalize(start + 7200)
	w.says(w.client(behind), start, false, "is 2h0m")
	w.says(w.client(behind, w), start+7200, true, "is 2h0m")
}

func TestWhichBlocksAHeadVouchesFor(t *testing.T) {
	// A chain of headers 90 to 120, of which 100 is final and 110 is attested.
	headers, raw := map[uint64]*types.Header{}, map[uint64][]byte{}
	parent := common.Hash{}
	for n := uint64(90); n <= 120; n++ {
		h := header(n)
		h.ParentHash = parent
		headers[n], parent = h, h.Hash()
	}
	for n, h := range headers {
		raw[n] = encode(t, h)
	}
	at := func(n uint64) consensus.Header {
		return consensus.Header{BlockNumber: n, BlockHash: headers[n].Hash()}
	}
	head := &anchor.Head{Finalized: at(100), Attested: at(110)}
	other := common.Hash{9}
	for _, row := range []struct {
		sentence string
		number   uint64
		hash     common.Hash
		says     string // the error; empty if the block is vouched for
	}{
		{"the final block", 100, headers[100].Hash(), ""},
		{"another of its number", 100, other, "according to the sync committee"},
		{"the attested block", 110, headers[110].Hash(), ""},
		{"another of its number, which may come yet", 110, other, "which is not final yet"},
		{"a block before the final one", 95, headers[95].Hash(), ""},
		{"another of its number", 95, other, "according to the sync committee"},
		{"a block between them", 105, headers[105].Hash(), ""},
		{"another of its number", 105, other, "according to the sync committee"},
		{"another of a number that is hardly settled", 108, other, "which is not final yet"},
		{"a newer block", 115, headers[115].Hash(), "block 115 is newer than block 110"},
	} {
		walk, err := head.WalkTo(row.number, row.hash)
		if err != nil {
			t.Fatal(err)
		}
		var way [][]byte
		for n := walk.Top; n > walk.To; n-- {
			way = append(way, raw[n])
		}
		err = head.Vouches(row.number, row.hash, way)
		if (err == nil) != (row.says == "") || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s, %d: %v, want %q", row.sentence, row.number, err, row.says)
		}
		if len(way) == 0 {
			continue
		}
		for what, headers := range map[string][][]byte{
			"one is missing": way[1:], "one is twice": append(way[:1:1], way...), "the last is another": append(way[:len(way)-1:len(way)-1], raw[90]), "none": nil,
		} {
			if err := head.Vouches(row.number, row.hash, headers); err == nil {
				t.Errorf("%s, of its headers %s: it is vouched for", row.sentence, what)
			}
		}
	}
	if _, err := head.WalkTo(100+anchor.MaxWalk+50, other); err == nil {
		t.Error("a block that is far away is walked to")
	}
	fork := &anchor.Head{Finalized: consensus.Header{BlockNumber: 100, BlockHash: other}}
	var way [][]byte
	for n := uint64(115); n > 100; n-- {
		way = append(way, raw[n])
	}
	if err := fork.Vouches(115, headers[115].Hash(), way); err == nil || !strings.Contains(err.Error(), "block 100 is "+headers[100].Hash().Hex()) {
		t.Errorf("a newer block of another chain: %v", err)
	}
	if err := (&anchor.Head{Finalized: at(100)}).Vouches(0, common.Hash{}, nil); err == nil {
		t.Error("before the first update, the zero block is vouched for")
	}
}

func encode(t *testing.T, h *types.Header) []byte {
	t.Helper()
	b, err := rlp.EncodeToBytes(h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
