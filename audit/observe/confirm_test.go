package observe_test

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
)

// between does something during the pause after the first look.
func (w *world) between(f func()) {
	w.opt.Progress = func(_, doing string) {
		if strings.Contains(doing, "looking again") {
			f()
		}
	}
}

// prune removes the state of the block that far behind the head.
func (w *world) prune(behind int64) {
	head, err := w.chain.Client().BlockNumber(context.Background())
	must(w.t, err)
	block, err := w.chain.Client().HeaderByNumber(context.Background(), big.NewInt(int64(head)-behind))
	must(w.t, err)
	w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
		if n := len(c.Params); n > 0 && strings.Contains(string(c.Params[n-1]), block.Hash().Hex()) {
			a.Result, a.Error = nil, &rpcfault.Error{Code: -32000, Message: "missing trie node"}
		}
	}})
}

func (w *world) revoke() { must(w.t, w.kms.RemoveImage(context.Background(), img1)) }

func TestOnlyWhatStandsInBothPassesIsDrift(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		first    func(*world) // before the first pass
		second   func(*world) // before the second
		verdict  audit.Verdict
		id       string
		entry    audit.EntryVerdict
		reason   string
		kinds    string
	}{
		{"it stands", (*world).revoke, func(*world) {}, audit.Drift, img1.Hex(), audit.Mismatch, "", "claim_allowed_chain_denied"},
		{"the API follows", (*world).revoke, func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
		}, audit.Consistent, img1.Hex(), audit.Match, "", "claim_unstable"},
		{"the contract is mended", (*world).revoke, func(w *world) {
			must(w.t, w.kms.AllowImage(context.Background(), img1))
		}, audit.Consistent, img1.Hex(), audit.Match, "", "claim_unstable"},
		{"the provider fails", (*world).revoke, func(w *world) { w.proxy.Set(rpcfault.Status(500, "")) },
			audit.Unknown, img1.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, ""},
		{"the API fails", (*world).revoke, func(w *world) { w.api.Fail(fakeapi.Fault{Name: "status", Status: 500}) },
			audit.Unknown, img1.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, ""},
		{"the provider goes back to a block before", (*world).revoke, func(w *world) {
			head, err := w.chain.Client().BlockNumber(context.Background())
			must(w.t, err)
			w.proxy.Set(rpcfault.Fault{Ask: func(c *rpcfault.Call) {
				if c.Method == "eth_getBlockByNumber" {
					c.Params[0] = fmt.Appendf(nil, `"0x%x"`, head-1)
				}
			}})
		}, audit.Unknown, img1.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, ""},
		{"the contract's answers are broken", (*world).revoke, func(w *world) { w.proxy.Set(rpcfault.Result("31 bytes", `"0x00"`)) },
			audit.Unknown, img1.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, ""},
		{"another entry differs by then", (*world).revoke, func(w *world) {
			must(w.t, w.kms.AllowImage(context.Background(), img1))
			must(w.t, w.kms.AllowDevice(context.Background(), dev2))
		}, audit.Unknown, dev2.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, "claim_unstable claim_unstable"},
		{"it is the other way round", (*world).revoke, func(w *world) {
			must(w.t, w.kms.AllowImage(context.Background(), img1))
			w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
		}, audit.Unknown, img1.Hex(), audit.Unverifiable, audit.ReasonUnconfirmed, "claim_unstable"},
		{"a fault of the contract is gone", func(w *world) {
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if a.Error == nil && (c.Method == "eth_call" || c.Method == "eth_getCode") {
					a.Result = []byte(`"0x"`)
				}
			}})
		}, func(w *world) { w.proxy.Set(rpcfault.Fault{}) }, audit.Consistent, img1.Hex(), audit.Match, "", "claim_unstable"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			tt.first(w)
			w.between(func() { tt.second(w) })
			r := w.auditor().says(tt.verdict, tt.kinds)
			if e := entry(t, r, tt.id); e.Verdict != tt.entry || e.Reason != tt.reason {
				t.Errorf("the entry is %s %s, want %s %s\n%s", e.Verdict, e.Reason, tt.entry, tt.reason, text(t, r))
			}
		})
	}
}

func TestAContractLevelFindingNeedsBothPassesToo(t *testing.T) {
	w := newWorld(t)
	w.revoke()
	w.between(func() {
		w.contract(func(c *fakeapi.Contract) { c.Address = "0x00000000000000000000000000000000000000AA" })
	})
	if r := w.auditor().says(audit.Unknown, ""); !strings.Contains(text(t, r), "a second look could not confirm no_code") {
		t.Errorf("nothing stands in both passes\n%s", text(t, r))
	}
}

func TestNoSecondPassWithoutNeed(t *testing.T) {
	w := newWorld(t)
	w.between(func() { t.Error("a second pass, though nothing differs") })
	w.audit()
	if n := w.api.Requests(); n != 1 {
		t.Errorf("%d requests to the API, want 1", n)
	}
}

func TestAnAuditThatEndsBeforeItsSecondPass(t *testing.T) {
	w := newWorld(t)
	w.revoke()
	w.opt.ConfirmDelay = time.Hour
	w.opt.Timeout = 300 * time.Millisecond
	r := w.audit()
	if e := entry(t, r, img1.Hex()); r.Verdict != audit.Unknown || e.Reason != audit.ReasonUnconfirmed {
		t.Errorf("%s with the entry %s %s, want unknown and unconfirmed", r.Verdict, e.Verdict, e.Reason)
	}
}

func TestPending(t *testing.T) {
	follow := func(w *world) {
		w.revoke()
		w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
	}
	for _, tt := range []struct {
		sentence string
		policy   string
		max      time.Duration
		change   func(*world)
		verdict  audit.Verdict
		entry    audit.EntryVerdict
	}{
		{"the state of the preferred block is pruned in the first pass only", "latest-3 latest", time.Hour, func(w *world) {
			w.revoke()
			for range 5 {
				w.chain.Commit()
			}
			w.prune(3)
			w.between(func() { w.proxy.Set(rpcfault.Fault{}) })
		}, audit.Drift, audit.Mismatch},
		{"the state of the preferred block is pruned", "latest-3 latest", time.Hour, func(w *world) {
			w.revoke()
			for range 5 {
				w.chain.Commit()
			}
			w.prune(3)
		}, audit.Drift, audit.Mismatch},
		{"the head agrees with the API already", "latest-1", time.Hour, follow, audit.Consistent, audit.Pending},
		{"the head does not agree either", "latest-1", time.Hour, func(w *world) { w.revoke(); w.chain.Commit() }, audit.Drift, audit.Mismatch},
		{"pending is turned off", "latest-1", 0, follow, audit.Drift, audit.Mismatch},
		{"a block that is named does not follow the head", "1", time.Hour, follow, audit.Drift, audit.Mismatch},
		{"the head cannot be asked", "latest-1", time.Hour, func(w *world) {
			follow(w)
			w.between(func() {
				head, err := w.chain.Client().HeaderByNumber(context.Background(), nil)
				must(w.t, err)
				w.proxy.Set(rpcfault.Fault{HTTP: nil, Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
					if c.Method == "eth_call" && strings.Contains(string(c.Params[1]), head.Hash().Hex()) {
						a.Result, a.Error = nil, &rpcfault.Error{Code: -32603, Message: "Internal error"}
					}
				}})
			})
		}, audit.Unknown, audit.Unverifiable},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			w.tags, w.intent.PendingMax = tt.policy, tt.max
			tt.change(w)
			r := w.audit()
			if e := entry(t, r, img1.Hex()); r.Verdict != tt.verdict || e.Verdict != tt.entry {
				t.Errorf("%s with the entry %s, want %s with %s\n%s", r.Verdict, e.Verdict, tt.verdict, tt.entry, text(t, r))
			}
		})
	}
}

func TestPendingEndsWithTime(t *testing.T) {
	w := newWorld(t)
	w.tags, w.intent.PendingMax = "latest-1", 200*time.Millisecond
	w.revoke()
	w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
	before := w.auditor()
	before.says(audit.Consistent, "")
	a := w.auditor() // as after a restart
	a.prior = before.prior
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if a.audit().Verdict == audit.Drift {
			return
		}
	}
	t.Error("still pending after its time")
}

func TestPendingBeginsAnewAfterAMatch(t *testing.T) {
	w := newWorld(t)
	w.tags, w.intent.PendingMax = "latest-1", 500*time.Millisecond
	a := w.auditor()
	expect := func(verdict audit.EntryVerdict) {
		t.Helper()
		if e := entry(t, a.audit(), img1.Hex()); e.Verdict != verdict {
			t.Fatalf("the entry is %s, want %s", e.Verdict, verdict)
		}
	}
	w.revoke()
	w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
	expect(audit.Pending)
	start := time.Now()
	w.chain.Commit()
	expect(audit.Match)
	time.Sleep(time.Until(start.Add(w.intent.PendingMax + time.Millisecond)))
	must(t, w.kms.AllowImage(t.Context(), img1))
	w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &yes })
	expect(audit.Pending)
}

func TestPendingGoesOnWhileTheAPICannotTell(t *testing.T) {
	w := provenWorld(t)
	w.tags, w.intent.PendingMax = "latest-1", 500*time.Millisecond
	a := w.auditor()
	says := func(claim *bool, verdict audit.EntryVerdict) {
		t.Helper()
		w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = claim })
		if e := entry(t, a.audit(), img1.Hex()); e.Verdict != verdict {
			t.Fatalf("the entry is %s, want %s", e.Verdict, verdict)
		}
	}
	w.revoke()
	start := time.Now()
	says(&no, audit.Pending)
	says(nil, audit.Unverifiable)
	says(nil, audit.Unverifiable) // as the audit before found it
	time.Sleep(time.Until(start.Add(2 * w.intent.PendingMax)))
	says(&no, audit.Mismatch)
}

func TestNoEntryIsLateWhereAContractIsNotListed(t *testing.T) {
	w := newWorld(t)
	w.tags, w.intent.PendingMax = "latest-1", time.Hour
	w.want(audit.Policy{})
	w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
	var pins atomic.Int64
	w.proxy.Watch(func(c rpcfault.Call) {
		if c.Method == "eth_chainId" {
			pins.Add(1)
		}
	})
	if r := w.audit(); r.Verdict != audit.Drift || kindsOf(r) != string(audit.ContractNotListed) || pins.Load() != 2 {
		t.Errorf("%s with %q after %d pinned blocks, want drift after two: the newest has nothing to say\n%s", r.Verdict, kindsOf(r), pins.Load(), text(t, r))
	}
}

// A change between pin and read must not mix two states.
func TestAReorganisationInMidAudit(t *testing.T) {
	w := newWorld(t)
	w.revoke()
	done := false
	w.proxy.Watch(func(c rpcfault.Call) {
		if c.Method == "eth_getCode" && !done {
			done = true
			_, err := w.chain.Reorg(context.Background(), 1)
			must(t, err)
		}
	})
	r := w.audit()
	if r.Verdict != audit.Unknown || !strings.Contains(text(t, r), "reorganised between pin and read") {
		t.Errorf("%s, want unknown, and the reorganisation told\n%s", r.Verdict, text(t, r))
	}
}
