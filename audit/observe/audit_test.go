package observe_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/rpcfault"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatAnAuditFinds(t *testing.T) {
	ptr := func(s string) *string { return &s }
	for _, tt := range []struct {
		sentence string
		change   func(*world)
		verdict  audit.Verdict
		kinds    string // of all findings
		id       string // of the entry that is wrong
		entry    audit.EntryVerdict
	}{
		{"both sides agree", func(*world) {}, audit.Consistent, "", "", ""},
		{"the API allows a device that the contract refuses", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = &yes })
		}, audit.Drift, "claim_allowed_chain_denied", dev2.Hex(), audit.Mismatch},
		{"the contract allows an image that the API refuses", func(w *world) {
			must(w.t, w.kms.AllowImage(context.Background(), img2))
		}, audit.Drift, "claim_denied_chain_allowed", img2.Hex(), audit.Mismatch},
		{"an image is revoked on chain only", func(w *world) {
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
		}, audit.Drift, "claim_allowed_chain_denied", img1.Hex(), audit.Mismatch},
		{"the API gives no answer for a device", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
		}, audit.Unknown, "claim_unknown", dev1.Hex(), audit.Unverifiable},
		{"an image has no hash and no claim", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.OSImages = append(c.OSImages, fakeapi.OSImage{Name: "dev", Version: "3"})
			})
		}, audit.Consistent, "no_hash", "", audit.Unverifiable},
		{"an image has an empty hash and a claim", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.OSImages = append(c.OSImages, fakeapi.OSImage{Name: "dev", Version: "3", Hash: ptr(""), Allowed: &no})
			})
		}, audit.Unknown, "no_hash", "", audit.Unverifiable},
		{"nothing but an image without a hash is listed", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.Devices, c.OSImages = nil, []fakeapi.OSImage{{Name: "dev", Version: "3"}}
			})
		}, audit.Unknown, "no_hash", "", audit.Unverifiable},
		{"nothing is listed", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices, c.OSImages = nil, nil })
		}, audit.Unknown, "", "", ""},
		{"a device id has 64 bytes", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].ID = strings.Repeat("ab", 64) })
		}, audit.Unknown, "malformed_id", `"` + strings.Repeat("ab", 64) + `"`, audit.Unverifiable},
		{"a malformed id and drift besides", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].ID, c.OSImages[0].Allowed = "0x12", &no })
		}, audit.Drift, "claim_denied_chain_allowed malformed_id", img1.Hex(), audit.Mismatch},
		{"a device is listed twice, in two spellings, with one claim", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: strings.ToUpper(c.Devices[0].ID), Allowed: &yes})
			})
		}, audit.Consistent, "", dev1.Hex(), audit.Match},
		{"a device is listed twice, with two claims", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: "0x" + c.Devices[0].ID, Allowed: &no})
			})
		}, audit.Drift, "duplicate_conflict", dev1.Hex(), audit.Mismatch},
		{"a device is listed twice, once without an answer", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: "0x" + c.Devices[0].ID})
			})
		}, audit.Drift, "duplicate_conflict", dev1.Hex(), audit.Mismatch},
		{"an id is in both lists", func(w *world) {
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: img1.Hex(), Allowed: &no})
			})
		}, audit.Consistent, "", "", ""},
		{"the configured contract is missing in the API", func(w *world) {
			w.want(audit.Policy{})
			w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
		}, audit.Drift, "contract_not_listed", "", ""},
		{"the API lists a contract that is not configured", func(w *world) {
			w.want(audit.Policy{})
			w.api.Update("test", func(c *fakeapi.Chain) {
				other := c.Contracts[0]
				other.Address = "0x00000000000000000000000000000000000000AA"
				c.Contracts = append(c.Contracts, other)
			})
		}, audit.Drift, "contract_unexpected", "", ""},
		{"the API lists an address without code", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Address = "0x00000000000000000000000000000000000000AA" })
		}, audit.Drift, "no_code", dev1.Hex(), audit.Unverifiable},
		{"the API lists a contract that is no KMS", func(w *world) {
			// The bytecode of a contract that answers every call with nothing: STOP.
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_call" && a.Error == nil {
					a.Result = []byte(`"0x"`)
				}
			}})
		}, audit.Unknown, "", dev1.Hex(), audit.Unverifiable},
		{"the rows of one contract are spread over two", func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) {
				second := c.Contracts[0]
				second.Address, second.Devices = "0x2F83172a49584c017f2b256f0fb2dca14126ba9c", nil
				c.Contracts[0].OSImages = nil
				c.Contracts = append(c.Contracts, second)
			})
		}, audit.Consistent, "", img1.Hex(), audit.Match},
		{"the API's answer is about another chain", func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) { c.ChainID = 1 })
		}, audit.Unknown, "chain_mismatch", dev1.Hex(), audit.Unverifiable},
		{"a contract's row is of another chain", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.ChainID = 1 })
		}, audit.Unknown, "chain_mismatch", dev1.Hex(), audit.Unverifiable},
		{"the provider is of another chain", func(w *world) { w.proxy.Set(rpcfault.ChainID(1)) },
			audit.Unknown, "chain_mismatch", dev1.Hex(), audit.Unverifiable},
		{"the API lists no contract, and none is configured", func(w *world) {
			w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
		}, audit.Unknown, "", "", ""},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			r := w.audit()
			if r.Verdict != tt.verdict || kindsOf(r) != tt.kinds {
				t.Fatalf("%s with findings %q, want %s with %q\n%s", r.Verdict, kindsOf(r), tt.verdict, tt.kinds, text(t, r))
			}
			if tt.entry != "" {
				if e := entry(t, r, tt.id); e.Verdict != tt.entry {
					t.Errorf("the entry is %s, want %s", e.Verdict, tt.entry)
				}
			}
		})
	}
}

func TestTheChainsAnswerIsShownWhereTheAPIHasNone(t *testing.T) {
	w := newWorld(t)
	w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
	if e := entry(t, w.audit(), dev1.Hex()); e.OnChain != audit.ChainAllowed || e.Claim != audit.ClaimUnknown || e.Kind != audit.ClaimUnknownKind {
		t.Errorf("entry %+v, want the chain's answer", e)
	}
}

// Whatever fails ends in unknown, with its source, whether the two sides agree or not.
func TestFailuresAreUnknown(t *testing.T) {
	for _, tt := range []struct {
		sentence string
		fail     func(*world)
		source   string
		stage    audit.Stage
		says     string
	}{
		{"the API refuses the key", func(w *world) { w.api.Fail(fakeapi.Fault{Name: "status", Status: 403}) }, "api", audit.StageAPI, "403"},
		{"the API is broken", func(w *world) { w.api.Fail(fakeapi.Fault{Name: "status", Status: 500}) }, "api", audit.StageAPI, "500"},
		{"the API sends half an answer", func(w *world) { w.api.Fail(fakeapi.Fault{Name: "truncated"}) }, "api", audit.StageDecode, "unexpected end of JSON"},
		{"the API sends HTML", func(w *world) { w.api.Fail(fakeapi.Fault{Name: "html"}) }, "api", audit.StageDecode, "html"},
		{"the API never answers", func(w *world) { w.api.Fail(fakeapi.Fault{Name: "hang"}) }, "api", audit.StageAPI, "no answer within 2s"},
		{"the provider is broken", func(w *world) { w.proxy.Set(rpcfault.Status(500, "")) }, "first", audit.StageRPC, "HTTP status 500"},
		{"the provider never answers", func(w *world) { w.proxy.Set(rpcfault.Hang) }, "first", audit.StageRPC, "no answer within 2s"},
		{"the provider forgot the state", func(w *world) { w.proxy.Set(rpcfault.Refuse("eth_call", -32000, "missing trie node")) }, "first", audit.StageRPC, "block: latest-"},
		{"both fail", func(w *world) {
			w.api.Fail(fakeapi.Fault{Name: "status", Status: 500})
			w.proxy.Set(rpcfault.Status(http.StatusBadGateway, ""))
		}, "first", audit.StageRPC, "502"},
		{"the audit's time is over", func(w *world) {
			w.proxy.Set(rpcfault.Hang)
			w.opt.Timeout = 50 * time.Millisecond
		}, "first", audit.StageRPC, "the audit's timeout of 50ms passed"},
		{"the auditor has a bug in reading claims", func(w *world) { w.opt.Claims = buggy{} }, audit.Self, audit.StageInternal, "a bug in kms-auditor: nil map"},
	} {
		for _, drift := range []bool{false, true} {
			name := tt.sentence
			if drift {
				name += ", and the sides differ"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.want(audit.Policy{})
				if drift {
					must(t, w.kms.RemoveImage(t.Context(), img1))
				}
				tt.fail(w)
				r := w.audit()
				if r.Verdict != audit.Unknown || len(r.Chains[0].Targets) != 1 || kindsOf(r) != "" {
					t.Fatalf("%s with findings %q, want unknown with none", r.Verdict, kindsOf(r))
				}
				for _, e := range r.Chains[0].Errors {
					if e.Source == tt.source && e.Stage == tt.stage && strings.Contains(strings.ToLower(e.Message), strings.ToLower(tt.says)) {
						return
					}
				}
				t.Errorf("errors %+v, want one of %s %s that says %q", r.Chains[0].Errors, tt.stage, tt.source, tt.says)
			})
		}
	}
}

type buggy struct{}

func (buggy) OnChainDetail(context.Context, string) (*kmsapi.OnChainDetail, error) { panic("nil map") }

func TestOneChainsFailureLeavesTheOthersWhole(t *testing.T) {
	w := newWorld(t)
	w.opt.Chains = []observe.Chain{{Intent: audit.Intent{Chain: "unheard-of", ChainID: 5}, Reader: panics{}}}
	r := w.audit()
	if r.Chains[0].Verdict != audit.Consistent || r.Chains[1].Verdict != audit.Unknown || r.Verdict != audit.Unknown {
		t.Fatalf("%s and %s make %s", r.Chains[0].Verdict, r.Chains[1].Verdict, r.Verdict)
	}
	if e := r.Chains[1].Errors; len(e) != 1 || e[0].Stage != audit.StageInternal {
		t.Errorf("errors %+v, want the bug", e)
	}
}

func TestASecondProviderTakesOver(t *testing.T) {
	w := newWorld(t)
	w.proxy.Set(rpcfault.Status(500, ""))
	w.rpc = append(w.rpc, w.chain.URL())
	r := w.audit()
	if r.Verdict != audit.Consistent || len(r.Chains[0].Errors) != 1 || r.Chains[0].Errors[0].Source != "first" {
		t.Errorf("%s with errors %+v, want consistent, and the first provider's failure told", r.Verdict, r.Chains[0].Errors)
	}
}

type panics struct{ observe.Reader }

func (panics) Pin(context.Context, ethrpc.PinRequest) (*ethrpc.Pinned, error) {
	panic("index out of range")
}

func TestAProviderThatStandsStill(t *testing.T) {
	for _, tt := range []struct{ tag, old, says string }{
		{"latest", `"latest"`, "warning: the newest block 1 is "},
		{"finalized", `"finalized"`, "warning: the audited block 32 is "},
		{"latest-3", `"0x21"`, ""},
		{"33", `"0x21"`, ""},
	} {
		w := newWorld(t)
		w.tags = tt.tag
		if tt.tag != "latest" {
			for range 35 {
				w.chain.Commit()
			}
		}
		w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
			if c.Method == "eth_getBlockByNumber" && string(c.Params[0]) == tt.old {
				a.Result = []byte(regexp.MustCompile(`"timestamp":"0x[0-9a-f]+"`).ReplaceAllString(string(a.Result), `"timestamp":"0x60000000"`))
			}
		}})
		r := w.audit()
		e := r.Chains[0].Errors
		if tt.says == "" && len(e) == 0 {
			continue
		}
		if r.Verdict != audit.Consistent || len(e) != 1 || !strings.HasPrefix(e[0].Message, tt.says) || !strings.Contains(e[0].Message, "may be out of sync") {
			t.Errorf("%s: %s with errors %+v, want consistent and %q", tt.tag, r.Verdict, e, tt.says)
		}
	}
}
