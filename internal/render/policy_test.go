package render_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

// pinnedBy is the policy that a snapshot of a report has.
func pinnedBy(t *testing.T, r *audit.Report) audit.Policy {
	t.Helper()
	return configured(t, snapshotOf(t, r), "").Chains[0].Contracts[0].Policy
}

func TestPolicyDiff(t *testing.T) {
	was := func(f func(*audit.Policy)) func(*audit.Policy, *audit.Target) {
		return func(p *audit.Policy, _ *audit.Target) { f(p) }
	}
	is := func(f func(*audit.Target)) func(*audit.Policy, *audit.Target) {
		return func(_ *audit.Policy, t *audit.Target) { f(t) }
	}
	other := common.HexToAddress("0x1000000000000000000000000000000000000001")
	for _, tt := range []struct {
		name   string
		change func(*audit.Policy, *audit.Target)
		lines  []string // but for the first two
		unread string
	}{
		{"a snapshot does not differ from what it is of", was(func(*audit.Policy) {}), nil, ""},
		{"an id that the policy lacks is to come, with its name", was(func(p *audit.Policy) { p.Devices = p.Devices[1:] }),
			[]string{"           devices:", `+            - "` + device + `" # prod5`}, ""},
		{"one that the contract refuses is to go, with its name", was(func(p *audit.Policy) { p.OSImages = append(p.OSImages, common.HexToHash(refused)) }),
			[]string{"           os_images:", `-            - "` + refused + `" # dstack-0.5.9`}, ""},
		{"an empty list is a list", was(func(p *audit.Policy) { p.OSImages = []common.Hash{} }),
			[]string{"           os_images:", `+            - "` + allowed + `" # dstack-0.5.8`}, ""},
		{"a field that has another value has both", was(func(p *audit.Policy) { p.Owner = &other }),
			[]string{`-          owner: "` + other.Hex() + `"`, `+          owner: "` + owner + `" # a transfer to 0x8617E340B3D01FA5F11F306F4090FD50E238070D is under way`}, ""},
		{"what the policy does not have is not compared", was(func(p *audit.Policy) { p.OSImages, p.CodeHash = nil, nil }),
			[]string{"# base " + contract + ": not in the policy, so not compared: os_images, code_hash"}, ""},
		{"an id that was not read does not differ", is(func(t *audit.Target) { t.Entries[0].OnChain = audit.ChainUnknown }), nil, "devices could not be read"},
		{"nor does a contract", func(p *audit.Policy, t *audit.Target) {
			*p, t.Entries, t.Control = audit.Policy{Devices: []common.Hash{}}, nil, nil
		}, nil, "it could not be read, or is not deployed"},
		{"nor one that may be gone", is(func(t *audit.Target) {
			t.Control = &audit.Control{Owner: owner, Code: t.Control.Code}
		}), nil, "implementation could not be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := proven()
			target := &r.Chains[0].Targets[0]
			target.Entries[len(target.Entries)-1].Name = "dstack-0.5.9"
			control := *target.Control
			control.Implementation = common.HexToAddress(control.Implementation).Hex()
			target.Control = &control
			policy := pinnedBy(t, r)
			tt.change(&policy, target)
			got := render.NewPolicyDiff(r, func(chain, of string) audit.Policy {
				if chain != "base" || of != contract {
					t.Errorf("asked for the policy of %s %s", chain, of)
				}
				return policy
			})
			var b bytes.Buffer
			got.WriteText(&b, render.TextOptions{})
			var want []string
			differs := len(tt.lines) > 0 && !strings.HasPrefix(tt.lines[0], "#")
			if differs {
				want = append(want, "--- base "+contract+", policy", "+++ base "+contract+", on chain at block 51375546", "         policy:")
			}
			want = append(want, tt.lines...)
			if d := cmp.Diff(want, strings.FieldsFunc(b.String(), func(r rune) bool { return r == '\n' }), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			if got.Differs != differs || (len(got.Unread) > 0) != (tt.unread != "") || !strings.Contains(strings.Join(got.Unread, "\n"), tt.unread) {
				t.Errorf("differs %t, unread %q", got.Differs, got.Unread)
			}
		})
	}
}

func TestAContractWithoutAPolicyIsNew(t *testing.T) {
	r := proven()
	got := render.NewPolicyDiff(r, func(string, string) audit.Policy { return audit.Policy{} })
	var b bytes.Buffer
	got.WriteText(&b, render.TextOptions{})
	// What is to come is what a snapshot has.
	_, snapshot, _ := strings.Cut(snapshotOf(t, r), "        policy:\n")
	_, added, _ := strings.Cut(b.String(), "+        policy:\n")
	if want := "+" + strings.ReplaceAll(strings.TrimSuffix(snapshot, "\n"), "\n", "\n+") + "\n"; added != want || !got.Differs {
		t.Errorf("differs %t\n%s", got.Differs, cmp.Diff(want, added))
	}
	var shown struct {
		Differs   bool
		Contracts []struct {
			New    bool
			Block  struct{ Number uint64 }
			Fields []struct {
				Key            string
				Removed, Added []map[string]string
			}
			NotCovered []string `json:"not_covered"`
		}
	}
	b.Reset()
	if err := render.Show(&b, got, render.TextOptions{}, true); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &shown); err != nil {
		t.Fatal(err)
	}
	c := shown.Contracts[0]
	if !shown.Differs || !c.New || c.Block.Number != 51375546 || len(c.Fields) != 10 || c.NotCovered == nil || c.Fields[0].Removed == nil ||
		c.Fields[0].Added[0]["value"] != device || c.Fields[0].Added[0]["remark"] != "prod5" {
		t.Errorf("%+v\n%s", shown, &b)
	}
}

func TestAChainOfWhichNothingWasAuditedIsNotTheSame(t *testing.T) {
	r := proven()
	r.Chains = append(r.Chains, audit.Chain{Chain: "ethereum", ChainID: 1})
	policy := pinnedBy(t, r)
	got := render.NewPolicyDiff(r, func(string, string) audit.Policy { return policy })
	if want := []string{"ethereum: no contract was audited"}; !cmp.Equal(want, got.Unread) {
		t.Errorf("unread %q, want %q", got.Unread, want)
	}
}

// Where no API covers a chain, nothing that people read may say that one failed to.
func TestAChainWithoutClaims(t *testing.T) {
	r := proven()
	c := &r.Chains[0]
	c.Claim, c.Claims, c.Errors = nil, audit.ClaimNone, nil
	for i := range c.Targets[0].Entries {
		e := &c.Targets[0].Entries[i]
		e.Claim, e.Name, e.Version, e.Kind, e.Reason = audit.ClaimNone, "", "", "", ""
	}
	c.Targets[0].Findings = nil
	var junit bytes.Buffer
	if err := render.JUnit(&junit, r); err != nil {
		t.Fatal(err)
	}
	shown := text(t, r, render.TextOptions{})
	if !strings.Contains(shown, "; without claims: only policies are compared\n") {
		t.Errorf("the text does not say that no API covers the chain:\n%s", shown)
	}
	for what, s := range map[string]string{"text": shown, "JUnit": junit.String(), "snapshot": snapshotOf(t, r)} {
		if strings.Contains(s, "API") || strings.Contains(s, "no claim fetched") {
			t.Errorf("the %s speaks of the API:\n%s", what, s)
		}
	}
}
