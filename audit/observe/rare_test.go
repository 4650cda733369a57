package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/rpcfault"
	"github.com/kms-auditor/kms-auditor/internal/secret"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// failing is a reader whose n-th reading ends otherwise.
type failing struct {
	audit.Reader
	n      int
	become func(*ethrpc.State) (*ethrpc.State, error)
}

func (f *failing) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	s, err := f.Reader.Read(ctx, req)
	if f.n--; f.n == 0 && err == nil {
		return f.become(s)
	}
	return s, err
}

// aside is a reader whose look at the newest block ends otherwise.
type aside struct {
	audit.Reader
	become func(*ethrpc.State)
}

func (a aside) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	s, err := a.Reader.Read(ctx, req)
	if err == nil && req.Aside {
		a.become(s)
	}
	return s, err
}

// unruled is a reader to whom no contract says who controls it.
type unruled struct{ audit.Reader }

func (u unruled) Read(ctx context.Context, req ethrpc.Request) (*ethrpc.State, error) {
	s, err := u.Reader.Read(ctx, req)
	if err == nil {
		for contract := range s.Control {
			s.Control[contract] = ethrpc.Control{Err: errPower}
		}
	}
	return s, err
}

var errPower = errors.New("the power is out")

func powerless(*ethrpc.State) (*ethrpc.State, error) { return nil, errPower }

// stuck are events that cannot be forgotten.
type stuck struct{ audit.Events }

func (stuck) Reset(common.Address) error { return errors.New("the disk is full") }

// lister is a list of KMS.
type lister func() (*kmsapi.List, error)

func (l lister) List(context.Context, kmsapi.Filter) (*kmsapi.List, error) { return l() }

// apart is an API that refuses the on-chain detail.
type apart int

func (status apart) OnChainDetail(context.Context, string) (*kmsapi.OnChainDetail, error) {
	return nil, fmt.Errorf("asking for its on-chain detail: %w", &kmsapi.StatusError{Status: int(status)})
}

// forgetful keeps no baseline.
type forgetful struct{ baselines }

func (forgetful) Begin(common.Address, audit.Baseline) error { return errors.New("the disk is full") }

func TestWhatSeldomHappens(t *testing.T) {
	read := func(n int, become func(*ethrpc.State) (*ethrpc.State, error)) func(*world) {
		return func(w *world) {
			w.more = func(o *audit.ChainOptions) { o.Reader = &failing{o.Reader, n, become} }
		}
	}
	// Two providers must agree, and the second one goes through a proxy of its own.
	two := func(fault rpcfault.Fault) func(*world) {
		return func(w *world) {
			other := rpcfault.New(w.chain.URL())
			other.Set(fault)
			w.verify = ethrpc.VerifyOff
			urls := []string{w.rpc[0], w.serve(other)}
			w.more = func(o *audit.ChainOptions) {
				c, err := ethrpc.New(ethrpc.Options{ChainID: chainID, Policies: o.Policies, Agreement: 2, BatchSize: 100, RetryDelay: time.Millisecond, Verify: ethrpc.VerifyOff,
					Providers: []ethrpc.Provider{{Name: "first", URL: secret.New(urls[0])}, {Name: "second", URL: secret.New(urls[1])}}})
				must(w.t, err)
				w.t.Cleanup(c.Close)
				o.Reader, o.Events = c, nil
			}
		}
	}
	for _, tt := range []struct {
		sentence string
		change   func(*world)
		verdict  audit.Verdict
		kinds    string
		says     string // in the report
	}{
		{"the chain's reader itself fails", read(1, powerless), audit.Unknown, "", "the power is out"},
		{"what events name cannot be asked for", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, powerless)(w)
		}, audit.Unknown, "", "the power is out"},
		{"what events name cannot be asked for, and nothing is proven", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
			read(2, powerless)(w)
		}, audit.Unknown, "", "1 of 5 entries: the contract's answer could not be read"},
		{"what events name is answered with nothing that can be read", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Answers[ethrpc.Ask{Contract: w.kms.Address(), Getter: ethrpc.AllowedDevice, ID: hidden}] = ethrpc.Answer{Err: errPower}
				return s, nil
			})(w)
		}, audit.Unknown, "", "1 of 5 entries: the contract's answer could not be read"},
		{"the API's answer is about another chain, and lists a contract that is not configured", func(w *world) {
			w.cross, w.pinned = true, []common.Address{w.kms.Address()}
			w.api.Update("test", func(c *fakeapi.Chain) {
				c.ChainID, c.Contracts[0].Address = 1, "0x00000000000000000000000000000000000000AA"
			})
		}, audit.Unknown, "chain_mismatch chain_mismatch", ""},
		{"a contract's row is of another chain, and the list of KMS lacks it", func(w *world) {
			w.cross = true
			w.contract(func(c *fakeapi.Contract) { c.ChainID = 1 })
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
		}, audit.Unknown, "chain_mismatch", ""},
		{"the API does not tell of a discovered chain that its list does not name", func(w *world) {
			w.cross = true
			w.more = func(o *audit.ChainOptions) { o.Discovered = true }
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
			w.opt.Claims = apart(500)
		}, audit.Unknown, "", `"message":"asking for its on-chain detail: the API answered 500`},
		{"what is accepted is of a contract that only the list of KMS names, which fails", func(w *world) {
			w.cross = true
			w.api.Fail(fakeapi.Fault{Name: fakeapi.Status, Endpoint: fakeapi.List})
			w.more = func(o *audit.ChainOptions) {
				o.Accept = []audit.Accept{{Chain: "test", Contract: common.Address{0xbb}, Kind: audit.KMSContractMismatch, Expires: time.Now().Add(time.Hour)}}
			}
		}, audit.Unknown, "", "the API's list of KMS could not be read"},
		{"what is accepted is of control, and of storage, neither of which could be looked at while something else differs", func(w *world) {
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.proxy.Set(rpcfault.Refuse("eth_getProof", -32601, "not on this plan"))
			w.more = func(o *audit.ChainOptions) {
				for _, k := range []audit.Kind{audit.OwnerChanged, audit.StorageUnaccounted} {
					o.Accept = append(o.Accept, audit.Accept{Chain: "test", Contract: w.kms.Address(), Kind: k, Expires: time.Now().Add(time.Hour)})
				}
				o.Reader = unruled{o.Reader}
			}
		}, audit.Drift, "claim_allowed_chain_denied", "who controls the contract could not be read"},
		{"what is accepted cannot be read, while something else differs", func(w *world) {
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.contract(func(c *fakeapi.Contract) { c.Devices[0].Allowed = nil })
			w.more = func(o *audit.ChainOptions) {
				o.Accept = []audit.Accept{{Chain: "test", Contract: w.kms.Address(), List: audit.Device, ID: dev1.Hex(), Kind: audit.ClaimAllowedChainDenied, Expires: time.Now().Add(time.Hour)}}
			}
		}, audit.Drift, "claim_allowed_chain_denied claim_unknown", ""},
		{"what events name is answered by one provider of two", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			read(2, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Failed = append(s.Failed, ethrpc.ProviderError{Provider: "second", Err: errPower})
				return s, nil
			})(w)
		}, audit.Drift, "unlisted_chain_allowed", "the power is out"},
		{"events that were left out cannot be read anew", func(w *world) {
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Fault{Reply: func(c rpcfault.Call, a *rpcfault.Answer) {
				if c.Method == "eth_getLogs" && a.Error == nil {
					a.Result = []byte("[]")
				}
			}})
			w.events = func(e audit.Events) audit.Events { return stuck{e} }
		}, audit.Unknown, "", "the disk is full"},
		{"proof is required, and not all that is stored is accounted for", func(w *world) {
			w.verify = ethrpc.VerifyRequired
			must(w.t, w.kms.AllowDevice(context.Background(), hidden))
			w.proxy.Set(rpcfault.Refuse("eth_getLogs", -32601, "not on this plan"))
		}, audit.Unknown, "", "verify is required, and the contract's storage is not proven"},
		{"an id has two names", func(w *world) {
			other := "prod2"
			w.contract(func(c *fakeapi.Contract) {
				c.Devices = append(c.Devices, fakeapi.Device{ID: dev1.Hex(), NodeName: &other, Allowed: &yes})
			})
		}, audit.Consistent, "", `"name":"prod1, prod2"`},
		{"two providers agree", two(rpcfault.Fault{}), audit.Consistent, "", `"assurance":"agreed"`},
		{"two providers do not", two(rpcfault.Result("true", `"0x`+strings.Repeat("00", 31)+`01"`)), audit.Unknown, "provider_disagreement", "second"},
		{"who controls the contract cannot be kept", func(w *world) {
			w.more = func(o *audit.ChainOptions) { o.Baselines = forgetful{baselines{}} }
		}, audit.Consistent, "", "the disk is full"},
		{"who controls the contract cannot be read, and so is not held against the list of KMS", func(w *world) {
			w.cross = true
			read(1, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Control[w.kms.Address()] = ethrpc.Control{Err: errPower}
				return s, nil
			})(w)
		}, audit.Unknown, "", "who controls the contract could not be read: the power is out"},
		{"the contract is no proxy, and has the code that is wanted", func(w *world) {
			read(1, func(s *ethrpc.State) (*ethrpc.State, error) {
				s.Control[w.kms.Address()] = ethrpc.Control{CodeHash: dev1}
				return s, nil
			})(w)
			reader := w.more
			w.more = func(o *audit.ChainOptions) {
				reader(o)
				o.Wanted = map[common.Address]audit.Policy{w.kms.Address(): {CodeHash: &dev1}}
			}
		}, audit.Consistent, "", `"code_hash":"` + dev1.Hex()},
		{"nothing is deployed at the pinned block, and the newest cannot be asked", func(w *world) {
			w.policies, w.opt.PendingMax = "latest-2", time.Hour
			late, err := w.chain.Deploy(context.Background(), testchain.DeployOptions{})
			must(w.t, err)
			w.contract(func(c *fakeapi.Contract) { c.Address, c.Devices, c.OSImages = late.Address().Hex(), nil, nil })
			w.more = func(o *audit.ChainOptions) { o.Events, o.Reader = nil, &failing{o.Reader, 3, powerless} }
		}, audit.Unknown, "", "nothing is deployed at the pinned block, and the newest could not be asked"},
		{"nothing is deployed at the pinned block, as is proven, and that it is at the newest is not", func(w *world) {
			w.policies, w.opt.PendingMax = "latest-2", time.Hour
			late, err := w.chain.Deploy(context.Background(), testchain.DeployOptions{})
			must(w.t, err)
			w.contract(func(c *fakeapi.Contract) { c.Address = late.Address().Hex() })
			w.more = func(o *audit.ChainOptions) { o.Reader = aside{o.Reader, func(s *ethrpc.State) { s.Contracts = nil }} }
		}, audit.Unknown, "", "nothing is deployed at the pinned block, and the newest could not be asked"},
		{"the difference is proven, and that the newest block agrees with the API is not", func(w *world) {
			w.policies, w.opt.PendingMax = "latest-1", time.Hour
			must(w.t, w.kms.RemoveImage(context.Background(), img1))
			w.contract(func(c *fakeapi.Contract) { c.OSImages[0].Allowed = &no })
			w.more = func(o *audit.ChainOptions) {
				o.Reader = aside{o.Reader, func(s *ethrpc.State) {
					for ask, a := range s.Answers {
						a.Proven = false
						s.Answers[ask] = a
					}
				}}
			}
		}, audit.Unknown, "", "a difference was seen and could not be confirmed"},
		{"the list of KMS names a contract of a discovered chain that has none", func(w *world) {
			w.cross = true
			w.more = func(o *audit.ChainOptions) { o.Discovered = true }
			w.api.UpdateKMS(func(k *[]fakeapi.KMS) {
				*k = (*k)[1:2]
				(*k)[0].ChainID = chainID
			})
			w.api.Update("test", func(c *fakeapi.Chain) { c.Contracts = nil })
		}, audit.Drift, "kms_contract_mismatch", ""},
		{"the list of KMS hits a bug", func(w *world) {
			w.more = func(o *audit.ChainOptions) { o.KMS = lister(func() (*kmsapi.List, error) { panic("no such page") }) }
		}, audit.Unknown, "", "a bug in kms-auditor: no such page"},
		{"an accepted difference is another chain's", func(w *world) {
			w.more = func(o *audit.ChainOptions) {
				o.Accept = []audit.Accept{{Chain: "other", Contract: w.kms.Address(), Kind: audit.StorageUnaccounted}}
			}
		}, audit.Consistent, "", ""},
		{"the policy's difference is accepted, and the API's silence about the id is not", func(w *world) {
			w.contract(func(c *fakeapi.Contract) { c.Devices[1].Allowed = nil })
			w.more = func(o *audit.ChainOptions) {
				o.Wanted = map[common.Address]audit.Policy{w.kms.Address(): {Devices: []common.Hash{dev1, dev2}}}
				o.Accept = []audit.Accept{{Chain: "test", Contract: w.kms.Address(), List: audit.Device, ID: dev2.Hex(), Kind: audit.PolicyAllowedDenied, Expires: time.Now().Add(time.Hour)}}
			}
		}, audit.Unknown, "claim_unknown", ""},
		{"one of two faults is accepted", func(w *world) {
			w.backdoor()
			w.more = func(o *audit.ChainOptions) {
				o.Wanted = map[common.Address]audit.Policy{w.kms.Address(): {Owner: &common.Address{1}}}
				o.Accept = []audit.Accept{{Chain: "test", Contract: w.kms.Address(), Kind: audit.StorageUnaccounted, Expires: time.Now().Add(time.Hour)}}
			}
		}, audit.Drift, "owner_changed", ""},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			w := provenWorld(t)
			tt.change(w)
			r := w.audit()
			if r.Verdict != tt.verdict || kindsOf(r) != tt.kinds || !strings.Contains(text(t, r), tt.says) {
				t.Errorf("%s with %q, want %s with %q, and %q told\n%s", r.Verdict, kindsOf(r), tt.verdict, tt.kinds, tt.says, text(t, r))
			}
		})
	}
}

func TestWhatEventsDoNotTellIsAskedForAgain(t *testing.T) {
	w := provenWorld(t)
	w.eager = true
	asked := 0
	w.events = func(e audit.Events) audit.Events { return mute{e, &asked} }
	late := time.Duration(0)
	w.opt.Now = func(string) time.Time { return time.Now().Add(late).UTC() }
	a := w.auditor()
	for _, tt := range []struct {
		after time.Duration
		times int
	}{{0, 1}, {time.Minute, 2}, {2 * time.Minute, 2}, {12 * time.Minute, 3}} {
		late = tt.after
		if r := w.auditWith(a); r.Verdict != audit.Consistent || asked != tt.times {
			t.Errorf("%s, and asked %d times after %s, want %d", r.Verdict, asked, tt.after, tt.times)
		}
	}
}

// mute are events that never tell all.
type mute struct {
	audit.Events
	asked *int
}

func (m mute) Annotate(context.Context, common.Address, map[audit.List][]common.Hash) bool {
	*m.asked++
	return false
}

func TestFindingsOfTheSameMoment(t *testing.T) {
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	r := tracked("drift", noon)
	target := &r.Chains[0].Targets[0]
	for _, id := range []common.Hash{dev2, dev1} { // the second is told twice
		f := target.Findings[0]
		f.ID = id.Hex()
		target.Findings = append(target.Findings, f)
		target.Entries = append(target.Entries, audit.Entry{List: audit.Device, ID: id.Hex(), Verdict: audit.Mismatch})
	}
	tracker := audit.NewTracker(nil)
	opened := tracker.Update(r)
	var open []string
	for _, k := range tracker.Open() {
		open = append(open, k.Finding.ID)
	}
	if len(opened) != 2 || !slices.Equal(open, []string{dev1.Hex(), dev2.Hex()}) {
		t.Errorf("%d are opened, and open are %q", len(opened), open)
	}
	gone := tracked("unlisted", noon.Add(time.Hour))
	if resolved := tracker.Update(gone); len(resolved) != 2 || len(tracker.Open()) > 0 {
		t.Errorf("resolved: %+v", resolved)
	}
}

func TestAVerdictIsOneOfThree(t *testing.T) {
	v := audit.Drift
	if err := json.Unmarshal([]byte(`"fine"`), &v); err == nil || v != audit.Drift {
		t.Errorf(`"fine" is read as %s`, v)
	}
	for _, want := range audit.Verdicts {
		b, err := json.Marshal(want)
		must(t, err)
		if err := json.Unmarshal(b, &v); err != nil || v != want {
			t.Errorf("%s is read as %s (%v)", b, v, err)
		}
	}
}

// A discovered chain that the list of KMS does not name is left out where the API does not know it, and nowhere else.
func TestWhichChainsAreLeftOut(t *testing.T) {
	for status, left := range map[int]bool{400: true, 404: true, 422: true, 401: false, 429: false, 500: false} {
		w := newWorld(t)
		w.cross = true
		w.more = func(o *audit.ChainOptions) { o.Discovered = true }
		w.api.UpdateKMS(func(k *[]fakeapi.KMS) { *k = nil })
		w.opt.Claims = apart(status)
		if r := w.audit(); (len(r.Chains) == 0) != left || r.Verdict != audit.Unknown {
			t.Errorf("HTTP %d: %s of %d chains", status, r.Verdict, len(r.Chains))
		}
	}
}
