package evidence_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

func TestRecordsAreJudgedAgain(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*observe.Record)
		verdict  audit.Verdict
	}{
		{"both looks see what the API does not list", func(*observe.Record) {}, audit.Drift},
		{"all agrees", func(r *observe.Record) {
			r.Prior.Open, r.Intent.Contracts[0].Policy.Devices = nil, []common.Hash{dev1}
			for _, o := range []*audit.Observation{&r.Looks.First, r.Looks.Second} {
				o.Readings[0].Answers = o.Readings[0].Answers[:2]
			}
		}, audit.Consistent},
		{"there was no second look", func(r *observe.Record) { r.Looks.Second, r.Looks.Interrupted = nil, "the plug was pulled" }, audit.Unknown},
		{"the head was asked", func(r *observe.Record) {
			head := *r.Looks.Second
			head.Tag, head.Claim, head.Block = "latest", nil, &audit.Block{Number: 120, Hash: id("b2").Hex(), Time: noon}
			r.Looks.Head, r.Intent.PendingMax = &head, time.Hour
		}, audit.Drift},
		{"nothing could be read", func(r *observe.Record) {
			r.Looks = audit.Looks{First: audit.Observation{At: noon, ChainUnknown: true, ListingFailed: true, Failures: r.Looks.First.Failures}}
		}, audit.Unknown},
	} {
		r := byHand(t)
		row.change(&r)
		f := judged(t, r)
		got, err := evidence.Verify(t.Context(), again(t, f), nil)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		if f.Report.Verdict != row.verdict || got.Verdict() != row.verdict {
			t.Errorf("%s: the report is %s and verifies as %s, want %s", row.sentence, f.Report.Verdict, got.Verdict(), row.verdict)
		}
		if diff := cmp.Diff(f.Report, got.Report); diff != "" {
			t.Errorf("%s: another report (-was +derived):\n%s", row.sentence, diff)
		}
		for _, s := range slices.Concat(got.Checked, got.Trusted) {
			fit.Text(t, s, 500)
		}
	}
}

func TestForgedEvidenceIsRefuted(t *testing.T) {
	target := func(f *evidence.File) *audit.Target { return &f.Report.Chains[0].Targets[0] }
	for _, row := range []struct {
		sentence string
		change   func(*evidence.File)
		says     string
	}{
		{"the report's verdict is another", func(f *evidence.File) { f.Report.Verdict = audit.Consistent }, "the report: the report says consistent, but the evidence gives drift"},
		{"the chain's verdict is another", func(f *evidence.File) { f.Report.Chains[0].Verdict = audit.Unknown }, "base: the report says unknown"},
		{"the contract's verdict is another", func(f *evidence.File) { target(f).Verdict = audit.Consistent }, "base " + at.Hex() + ": the report says consistent"},
		{"an entry is another", func(f *evidence.File) { target(f).Entries[0].OnChain = audit.ChainAllowed },
			"entry device " + dev2.Hex() + ": the report says claim denied on chain allowed policy denied match none, but the evidence gives claim denied on chain denied"},
		{"an entry is removed", func(f *evidence.File) { target(f).Entries = target(f).Entries[1:] }, "entry device " + dev2.Hex() + ": the report lacks it"},
		{"an entry is added", func(f *evidence.File) {
			target(f).Entries = append(target(f).Entries, audit.Entry{List: audit.OSImage, ID: dev1.Hex(), Verdict: audit.Match})
		}, "the evidence gives none"},
		{"an entry is there twice", func(f *evidence.File) { target(f).Entries = append(target(f).Entries, target(f).Entries[0]) }, "entry device " + dev2.Hex()},
		{"a finding is removed", func(f *evidence.File) { target(f).Findings = target(f).Findings[1:] }, "finding unlisted_chain_allowed device " + hidden.Hex() + ": the report lacks it"},
		{"an open finding is said to be confirmed", func(f *evidence.File) {
			for i := range target(f).Findings {
				target(f).Findings[i].State = audit.Confirmed
			}
		}, "finding owner_changed: the report says confirmed, but the evidence gives open"},
		{"the block is another", func(f *evidence.File) { f.Report.Chains[0].Block.Number++ }, "block 101"},
		{"the claim is another", func(f *evidence.File) { f.Report.Chains[0].Claim.SHA256 = "00" }, "claim 00"},
		{"the owner is another", func(f *evidence.File) { target(f).Control.Owner = "0x0" }, "control owner: the report says 0x0"},
		{"the numbers are others", func(f *evidence.File) { target(f).Counts.Mismatch = 0 }, "count mismatch: the report lacks it"},
		{"it is better assured", func(f *evidence.File) { target(f).Assurance = audit.Proven }, "assurance proven"},
		{"there is no chain", func(f *evidence.File) { f.Chains = nil }, "the evidence gives none"},
		{"the chain is reported twice", func(f *evidence.File) { f.Report.Chains = append(f.Report.Chains, f.Report.Chains[0]) }, "the report says"},
		{"the policy is another", func(f *evidence.File) { f.Chains[0].Intent.Contracts[0].Policy.Devices = nil }, "entry device"},
		{"nothing was open before", func(f *evidence.File) { f.Chains[0].Prior.Open = nil }, "finding owner_changed"},
		{"an older block was audited before", func(f *evidence.File) { f.Chains[0].Prior.Blocks[0].Number = 101 }, "the evidence gives claim denied on chain denied policy denied unverifiable"},
		{"what was believed is said to be proven", func(f *evidence.File) { f.Chains[0].Second.Observation.Readings[0].Assurance = audit.Proven }, "is proven, but has no proof"},
		{"it is proven out of nothing", func(f *evidence.File) {
			s := f.Chains[0].Second
			s.Observation.Readings, s.Proven = nil, []evidence.Proven{{Query: ethrpc.Query{Contract: at}}}
		}, "proving the contracts' answers at block 100"},
		{"it is both believed and proven", func(f *evidence.File) {
			f.Chains[0].Second.Proven = []evidence.Proven{{Query: ethrpc.Query{Contract: at}}}
		}, "read twice"},
		{"it was read at no block", func(f *evidence.File) { f.Chains[0].Second.Observation.Block = nil }, "without a block"},
		{"the API said something else", func(f *evidence.File) {
			f.Chains[0].Second.Claim.Body = bytes.Replace(f.Chains[0].Second.Claim.Body, []byte("false"), []byte("true"), 1)
		}, "does not match its SHA-256"},
		{"it did, with a digest that fits", func(f *evidence.File) {
			c := f.Chains[0].Second.Claim
			c.Body = bytes.Replace(c.Body, []byte("false"), []byte("true"), 1)
			sum := sha256.Sum256(c.Body)
			c.SHA256 = hex.EncodeToString(sum[:])
		}, "entry device " + dev2.Hex()},
		{"a page of the list of KMS is of no shape", func(f *evidence.File) {
			f.Chains[0].First.Listing = []evidence.Answer{*f.Chains[0].First.Claim}
		}, "decoding the API's list of KMS"},
		{"no judge can take it", func(f *evidence.File) { f.Chains[0].Prior.Open[0].Finding.FirstSeen = nil }, "cannot be judged"},
		{"the API names no KMS", func(f *evidence.File) {
			f.Chains[0] = evidence.Chain{Intent: audit.Intent{Chain: "base", Discover: true}, First: evidence.Look{Observation: audit.Observation{ChainUnknown: true}}}
		}, "an audit would not report it"},
		{"a name would run on a terminal", func(f *evidence.File) { f.Chains[0].Intent.Chain = "\x1b[2J" + strings.Repeat("x", 1<<16) }, "base " + at.Hex()},
	} {
		f := judged(t, byHand(t))
		f = again(t, f)
		row.change(f)
		_, err := evidence.Verify(t.Context(), again(t, f), nil)
		if !errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
			continue
		}
		fit.Error(t, err, 1000)
	}
}

// TestEvidenceOfALaterForkIsNotRefuted: whether it holds, only a newer release can say.
func TestEvidenceOfALaterForkIsNotRefuted(t *testing.T) {
	header, err := rlp.EncodeToBytes([]any{"a field of a later fork"})
	if err != nil {
		t.Fatal(err)
	}
	for sentence, change := range map[string]func(*evidence.File){
		"a block's header has another form": func(f *evidence.File) {
			s := f.Chains[0].Second
			s.Observation.Readings, s.Proven = nil, []evidence.Proven{{Query: ethrpc.Query{Contract: at}}}
			s.Header, s.Observation.Block.Hash = header, crypto.Keccak256Hash(header).Hex()
		},
		"a light client document is of another fork": func(f *evidence.File) {
			f.Chains[0].Intent.ChainID = 1
			f.Chains[0].First.Anchor = &evidence.Anchor{Documents: anchor.Documents{Network: consensus.Mainnet, Bootstrap: anchor.Document{At: noon, Body: []byte(`{"version": "heze", "data": {}}`)}}}
		},
	} {
		f := again(t, judged(t, byHand(t)))
		change(f)
		_, err := evidence.Verify(t.Context(), again(t, f), nil)
		if !errors.Is(err, evidence.ErrUnsupported) || errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), "upgrade kms-auditor") {
			t.Errorf("%s: %v", sentence, err)
		}

		// A forger who adds such a fork gains nothing if anything else is refuted.
		other := f.Chains[0]
		other.First.Claim, other.First.Anchor, other.Second = &evidence.Answer{Body: []byte("{}")}, nil, nil
		f.Chains = append(f.Chains, other)
		if _, err := evidence.Verify(t.Context(), again(t, f), nil); !errors.Is(err, evidence.ErrRefuted) {
			t.Errorf("%s, and another chain is forged: %v", sentence, err)
		}
		f.Chains = f.Chains[:1]
		if s := f.Chains[0].Second; s.Header != nil {
			s.Observation.Block.Trust = audit.TrustConsensus
			if _, err := evidence.Verify(t.Context(), again(t, f), nil); !errors.Is(err, evidence.ErrRefuted) {
				t.Errorf("%s, and nothing vouches for the block: %v", sentence, err)
			}
		}
	}
}

// TestWhatIsForShowIsNotCompared changes sentences, names and times: another release may tell them otherwise.
func TestWhatIsForShowIsNotCompared(t *testing.T) {
	f := judged(t, byHand(t))
	want := keys(f.Report)
	f.Report.Chains[0].Errors = []audit.SourceError{}
	x := &f.Report.Chains[0].Targets[0]
	x.Reasons, x.Findings[0].Message, x.Findings[0].FirstSeen, x.Entries[0].Name = []string{"reworded"}, "reworded", nil, "reworded"
	got, err := evidence.Verify(t.Context(), again(t, f), nil)
	must(t, err)
	if diff := cmp.Diff(want, keys(got.Report)); diff != "" {
		t.Error(diff)
	}
}

// TestOlderRules has a file claim that older rules made its report.
func TestOlderRules(t *testing.T) {
	f := judged(t, byHand(t))
	f.Report.Verdict, f.Report.Chains[0].Targets[0].Entries[0].Verdict = audit.Consistent, audit.Accepted
	r, err := evidence.VerifyBy(t.Context(), f, nil, audit.Rules+1)
	must(t, err)
	if r.Verdict() != audit.Drift || r.Reported != audit.Consistent || r.Report.Verdict != audit.Drift || r.Rules != audit.Rules || len(r.Differences) != 2 {
		t.Errorf("by other rules: %+v", r)
	}
	f.Report = judged(t, byHand(t)).Report
	f.Report.Verdict = audit.Drift
	if r, err = evidence.VerifyBy(t.Context(), f, nil, audit.Rules+1); err != nil || r.Differences != nil || r.Verdict() != audit.Drift {
		t.Errorf("by other rules that judge the same: %+v (%v)", r, err)
	}
}

func TestVerifyEndsInTime(t *testing.T) {
	// A hundred thousand contracts are compared pairwise.
	r := byHand(t)
	for i := range 300_000 {
		r.Prior.Contracts = append(r.Prior.Contracts, audit.Known{Address: common.BigToAddress(common.Big1), Since: noon})
		r.Prior.Contracts[i].Address[0], r.Prior.Contracts[i].Address[1], r.Prior.Contracts[i].Address[2] = byte(i), byte(i>>8), byte(i>>16)
	}
	f, err := evidence.New(audit.NewReport("A1", "test", noon, noon, nil), []observe.Record{r})
	must(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	start := time.Now()
	if _, err = evidence.Verify(ctx, f, nil); err == nil || !strings.Contains(err.Error(), "enough") || errors.Is(err, evidence.ErrRefuted) {
		t.Errorf("%v, want no judgement", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestNothingIsKeptThatDoesNotProve(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*observe.Record)
		says     string
	}{
		{"the API sends the key back", func(r *observe.Record) { r.Raw.Second.Claim.HoldsKey = true }, "contains the API key"},
		{"its list does", func(r *observe.Record) {
			page := *r.Raw.First.Claim
			page.HoldsKey = true
			r.Raw.First.Listing = append(r.Raw.First.Listing, page)
		}, "contains the API key"},
		{"the claim was not recorded", func(r *observe.Record) { r.Raw.First.Claim = nil }, "not recorded"},
		{"the proof was not recorded", func(r *observe.Record) { r.Looks.First.Readings[0].Assurance = audit.Proven }, "not recorded"},
	} {
		r := byHand(t)
		row.change(&r)
		if _, err := evidence.New(&audit.Report{}, []observe.Record{r}); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	f := judged(t, byHand(t))
	must(t, evidence.Keep(dir, evidence.Rotation{KeepLast: 1}, true, f))
	if _, err := evidence.Verify(t.Context(), sample(t, dir+"/evidence-20260102T120000.000Z-A1.json.gz"), nil); err != nil {
		t.Error(err)
	}
	if err := evidence.Keep(dir+"/missing", evidence.Rotation{KeepLast: 1}, true, f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that the folder is missing", err)
	}
}
