package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/fit"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/secret"
)

func TestNoByteCanBeChanged(t *testing.T) {
	b := newWorldEvidence(t, denied)
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		changed := bytes.Clone(b)
		changed[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
		if _, err := evidence.Decode(bytes.NewReader(changed)); err == nil {
			t.Fatal("a changed byte is not noticed")
		}
	}
	for name, changed := range map[string][]byte{
		"cut": b[:len(b)-1], "longer": append(bytes.Clone(b), '\n'), "without its seal": b[:bytes.IndexByte(b, '\n')], "empty": nil,
	} {
		if _, err := evidence.Decode(bytes.NewReader(changed)); err == nil {
			t.Errorf("evidence that is %s is taken", name)
		}
	}
}

// TestProofsNeedNoSeal changes single bytes of what is proven and seals the file anew.
func TestProofsNeedNoSeal(t *testing.T) {
	b := newWorldEvidence(t, denied)
	random := rand.New(rand.NewPCG(3, 4))
	flip := func(b hexutil.Bytes) { b[random.IntN(len(b))] ^= byte(1 + random.IntN(255)) }
	for range 1000 {
		f := decode(t, b)
		c := &f.Chains[0]
		what := "a node"
		switch n := random.IntN(len(c.Nodes) + len(c.Codes) + 2); {
		case n < len(c.Nodes):
			flip(c.Nodes[n])
		case n < len(c.Nodes)+len(c.Codes):
			what = "code"
			flip(c.Codes[n-len(c.Nodes)])
		case n == len(c.Nodes)+len(c.Codes):
			what = "a header"
			flip(c.Reads[0].Header)
		default:
			what = "a claim"
			flip(c.Claims[0].Body)
		}
		if _, _, err := evidence.Verify(t.Context(), decode(t, sealed(t, f))); err == nil {
			t.Fatalf("%s with a changed byte is taken", what)
		}
	}
}

func TestNobodyCanChangeTheMeaning(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		change   func(*evidence.File)
		says     string
	}{
		{"the verdict is another", func(f *evidence.File) { f.Report.Verdict = audit.Consistent }, "it says consistent, and the evidence drift"},
		{"the chain's verdict is another", func(f *evidence.File) { f.Report.Chains[0].Verdict = audit.Consistent }, "reported consistent, and the evidence makes it drift"},
		{"a finding is left out", func(f *evidence.File) { f.Report.Chains[0].Targets[0].Findings = []audit.Finding{} }, "and contract 0x"},
		{"the block is another", func(f *evidence.File) { f.Report.Chains[0].Block.Number++ }, "another block"},
		{"an answer is believed that was proven", func(f *evidence.File) {
			f.Chains[0].Reads[1].Header = nil
			f.Chains[0].Reads[1].Believed = &evidence.Believed{}
		}, "is not what its evidence gives"},
		{"an answer is neither proven nor believed", func(f *evidence.File) { f.Chains[0].Reads[1].Header = nil }, "nothing tells what the contracts say"},
		{"the API said something else, with a digest that fits", func(f *evidence.File) {
			for i := range f.Chains[0].Claims {
				c := &f.Chains[0].Claims[i]
				c.Body = []byte(strings.ReplaceAll(string(c.Body), `"on_chain_allowed":false`, `"on_chain_allowed":true`))
				sum := sha256.Sum256(c.Body)
				c.SHA256 = hex.EncodeToString(sum[:])
			}
		}, "is not what its evidence gives"},
		{"the API's answer is of no shape", func(f *evidence.File) {
			c := &f.Chains[0].Claims[0]
			c.Body = []byte("{}")
			sum := sha256.Sum256(c.Body)
			c.SHA256 = hex.EncodeToString(sum[:])
		}, "decoding the API's answer"},
		{"the second pass is left out", func(f *evidence.File) { f.Chains[0].Claims = f.Chains[0].Claims[:1] }, "the evidence has no more"},
		{"there is a third pass", func(f *evidence.File) { f.Chains[0].Claims = append(f.Chains[0].Claims, f.Chains[0].Claims[0]) }, "more of it than the audit asks for"},
		{"the code is left out", func(f *evidence.File) { f.Chains[0].Codes = nil }, "lacks state"},
		{"the nodes are left out", func(f *evidence.File) { f.Chains[0].Nodes = nil }, "does not prove the account"},
		{"the block has another time", func(f *evidence.File) {
			f.Chains[0].Reads[0].Block.Time = f.Chains[0].Reads[0].Block.Time.Add(time.Second)
		}, "is block"},
		{"the block was not asked for", func(f *evidence.File) { f.Chains[0].Reads[0].Policy = "safe" }, "does not read at block"},
		{"an event's id is left out", func(f *evidence.File) {
			for _, e := range f.Chains[0].Events {
				e.Known = evidence.Named{Devices: e.Known.Devices}
				e.Updates = nil
			}
		}, "otherwise"},
		{"the events were read up to another block", func(f *evidence.File) {
			for _, e := range f.Chains[0].Events {
				e.Updates[0].Block = &hidden
			}
		}, "does not read the events of"},
		{"the report has a terminal's escape codes", func(f *evidence.File) { f.Report.AuditID = "\x1b[2J" }, "cannot be printed"},
		{"the chain's name has a terminal's escape codes", func(f *evidence.File) { f.Chains[0].Chain = "\x1b[2J" }, "chain \uFFFD[2J is reported"},
		{"a chain is left out", func(f *evidence.File) { f.Chains = nil }, "evidence of 0"},
		{"the schema is another", func(f *evidence.File) { f.Schema = "kms-auditor/evidence/v9" }, "its schema is"},
		{"there is no report", func(f *evidence.File) { f.Report = nil }, "no report"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			f := decode(t, newWorldEvidence(t, func(w *world) {
				denied(w)
				must(t, w.kms.AllowDevice(t.Context(), hidden))
			}))
			tt.change(f)
			f, err := evidence.Decode(bytes.NewReader(sealed(t, f)))
			if err == nil {
				_, _, err = evidence.Verify(t.Context(), f)
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// TestAReadingIsOneThing adds to a reading what leaves the report as it is.
func TestAReadingIsOneThing(t *testing.T) {
	failed := newWorldEvidence(t, func(w *world) { w.proxy.Set(rpcfault.Status(401, "")) })
	proven := newWorldEvidence(t, denied)
	for _, tt := range []struct {
		sentence string
		from     []byte
		change   func(*evidence.Read)
	}{
		{"one that failed is believed", failed, func(r *evidence.Read) { r.Believed = &evidence.Believed{} }},
		{"one that failed is proven", failed, func(r *evidence.Read) { r.Header = hexutil.Bytes{1} }},
		{"one that is proven is believed", proven, func(r *evidence.Read) { r.Believed = &evidence.Believed{} }},
	} {
		f := decode(t, tt.from)
		tt.change(&f.Chains[0].Reads[0])
		_, believed, err := evidence.Verify(t.Context(), decode(t, sealed(t, f)))
		if err == nil || !strings.Contains(err.Error(), "more than one of failed, proven and believed") {
			t.Errorf("%s: %v, believing %q", tt.sentence, err, believed)
		}
	}
}

// TestABlockIsTheOneOfItsPolicy has an audit of the newest block say that it was another policy's.
func TestABlockIsTheOneOfItsPolicy(t *testing.T) {
	b := newWorldEvidence(t, denied)
	at := decode(t, b).Chains[0].Reads[0].Block
	for _, tt := range []struct{ sentence, policy, says string }{
		{"its number", strconv.FormatUint(at.Number, 10), ""},
		{"its hash", at.Hash.Hex(), ""},
		{"another number", strconv.FormatUint(at.Number-1, 10), "asked for block"},
		{"another hash", hidden.Hex(), "asked for block"},
		{"farther behind the head", "latest-1", "asked for block"},
	} {
		f := decode(t, b)
		c := &f.Chains[0]
		f.Report.Chains[0].Policy, c.Policies = tt.policy, []string{tt.policy}
		for i := range c.Reads {
			if c.Reads[i].Policy == "latest" {
				c.Reads[i].Policy = tt.policy
			}
		}
		_, _, err := evidence.Verify(t.Context(), decode(t, sealed(t, f)))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.sentence, err, tt.says)
		}
	}
}

func TestNoBelievedAnswerIsLeftOut(t *testing.T) {
	f := decode(t, newWorldEvidence(t, func(w *world) { w.proxy.Set(noProof) }))
	for i := range f.Chains[0].Reads {
		b := f.Chains[0].Reads[i].Believed
		all := b.Answers
		b.Answers = all[1:]
		if _, _, err := evidence.Verify(t.Context(), f); err == nil || !strings.Contains(err.Error(), "nothing tells what") {
			t.Errorf("reading %d without an answer: %v", i, err)
		}
		b.Answers = all
	}
}

func TestWhatIsBelievedIsFitToShow(t *testing.T) {
	f := sample(t, "believed")
	f.Chains[0].Reads[0].Believed.Why = "\x1b[2J" + strings.Repeat("x", 1<<20)
	_, believed, err := evidence.Verify(t.Context(), f)
	if len(believed) == 0 || err != nil {
		t.Fatalf("%d bytes of sentences, %v", len(believed), err)
	}
	fit.Text(t, believed[0], 500)
}

func newWorldEvidence(t testing.TB, change func(*world)) []byte {
	t.Helper()
	w := newWorld(t)
	change(w)
	return w.audit(w.auditor())
}

// sealed encodes a file as somebody would who changed it.
func sealed(t testing.TB, f *evidence.File) []byte {
	t.Helper()
	b, err := json.Marshal(f)
	must(t, err)
	sum := sha256.Sum256(b)
	return append(b, "\n{\"sha256\":\""+hex.EncodeToString(sum[:])+"\"}\n"...)
}

func TestTheKeyIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.key = secret.New("phak_" + canary)
	if b := w.audit(w.auditor()); strings.Contains(string(b), canary) || strings.Contains(string(b), base64.StdEncoding.EncodeToString([]byte(canary))) {
		t.Error("the key is in the evidence")
	}
	w.claim(func(c *fakeapi.Contract) {
		name := "for phak_" + canary
		c.Devices[0].NodeName = &name
	})
	if _, err := w.record.Take(w.auditor().Audit(t.Context())); err == nil || !strings.Contains(err.Error(), "holds the API key") {
		t.Errorf("%v, want that the key cannot be kept", err)
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	f := decode(t, newWorldEvidence(t, func(*world) {}))
	for i := range 4 {
		f.Report.StartedAt = time.Date(2026, 1, 2, 3, 4, 5+i, 0, time.UTC)
		f.Report.AuditID = "AUDIT"
		must(t, evidence.Keep(dir, evidence.Rotation{KeepChanges: 1, KeepLast: 2}, i == 0, f))
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"evidence-20260102T030405.000Z-AUDIT.json.gz", "evidence-20260102T030407.000Z-AUDIT-unchanged.json.gz", "evidence-20260102T030408.000Z-AUDIT-unchanged.json.gz", "notes.txt"}, names); diff != "" {
		t.Fatal("files (-want +got):\n", diff)
	}
	r, err := os.Open(filepath.Join(dir, names[1]))
	must(t, err)
	defer r.Close()
	kept, err := evidence.Decode(r)
	must(t, err)
	if _, _, err := evidence.Verify(t.Context(), kept); err != nil {
		t.Error(err)
	}
	if err := evidence.Keep(filepath.Join(dir, "missing"), evidence.Rotation{}, true, f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that the folder is missing", err)
	}
}

func TestEvidenceFitsTheSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile("../../docs/evidence.schema.json")
	must(t, err)
	for name, change := range map[string]func(*world){
		"proven": func(*world) {}, "drift": denied, "believed": func(w *world) { w.proxy.Set(noProof) }, "unaccounted": backdoor,
		"failed": func(w *world) { w.api.Fail(fakeapi.Fault{Name: fakeapi.HTML}) },
		"a lie":  func(w *world) { w.proxy.Set(lie) },
		"told":   told, "listed": listed,
	} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(bytes.SplitN(newWorldEvidence(t, change), []byte("\n"), 2)[0]))
		must(t, err)
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhenAFindingWasFirstSeenIsNotDerived(t *testing.T) {
	f := decode(t, newWorldEvidence(t, denied))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	target := &f.Report.Chains[0].Targets[0]
	target.Findings[0].FirstSeen, target.Entries[0].FirstSeen = &at, &at
	r, _, err := evidence.Verify(t.Context(), f)
	must(t, err)
	if got := r.Chains[0].Targets[0]; got.Findings[0].FirstSeen != &at || got.Entries[0].FirstSeen != &at {
		t.Error("the derived report does not tell when the finding was first seen")
	}
}
