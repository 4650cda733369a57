package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/state"
)

func request(c audit.Control) state.Request {
	return state.Request{Kind: state.Accept, Chain: "base", Contract: kms.Contract, Control: &c, At: noon.Add(time.Hour)}
}

func forget(t state.Target) state.Request {
	return state.Request{Kind: state.Forget, Chain: t.Chain, Contract: t.Contract, At: noon.Add(time.Hour), By: "ann"}
}

// take returns what became of each request, and the error of all. The contracts of configured are configured.
func (l *life) take(configured ...state.Target) (told []string, err error) {
	named := map[state.Target]bool{}
	for _, t := range configured {
		named[t] = true
	}
	err = l.state.Drain(l.path, named, func(r state.Request, err error) {
		switch {
		case err != nil:
			told = append(told, err.Error())
		case r.Kind == state.Accept:
			told = append(told, "accepted "+r.Control.Owner)
		default:
			told = append(told, "forgot "+r.Contract.Hex())
		}
	})
	return told, err
}

func TestAcceptRequests(t *testing.T) {
	stranger := request(taken)
	stranger.Contract = common.Address{1}
	empty, odd := request(taken), request(taken)
	empty.Control, odd.Kind = nil, "\x1b[2J"
	refused := fmt.Sprintf("accepting the baseline of %s: the control in the last report, of block %d, differs from the one in the request", kms, noon.Unix())
	for _, tt := range []struct {
		sentence string
		queued   []state.Request
		told     []string
		owner    string // of the baseline afterwards
	}{
		{"nothing is asked", nil, nil, control.Owner},
		{"what was seen is accepted", []state.Request{request(taken)}, []string{"accepted " + taken.Owner}, taken.Owner},
		{"what is no longer seen is not", []state.Request{request(control)}, []string{refused}, control.Owner},
		{"nor is nothing", []state.Request{empty}, []string{refused}, control.Owner},
		{"the later one of a contract counts", []state.Request{request(control), request(taken)}, []string{"accepted " + taken.Owner}, taken.Owner},
		{"a contract that nobody has seen", []state.Request{stranger, request(taken)},
			[]string{"accepting the baseline of 0x0100000000000000000000000000000000000000 on base: no audit has seen it", "accepted " + taken.Owner}, taken.Owner},
		{"a request of another kind", []state.Request{odd}, []string{`unknown kind of request: "\x1b[2J"`}, control.Owner},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			l := newLife(t)
			l.audit("match", noon.Add(-time.Minute))
			l.audit("taken", noon)
			l.audit("down", noon.Add(time.Minute))
			for _, r := range tt.queued {
				must(t, state.Enqueue(l.path, r))
			}
			if info, err := os.Stat(state.RequestPath(l.path)); len(tt.queued) > 0 && (err != nil || info.Mode() != 0o600) {
				t.Errorf("the file's mode is %v (%v)", info.Mode(), err)
			}
			l.restart()
			told, err := l.take(kms)
			if d := cmp.Diff(tt.told, told); d != "" || err != nil {
				t.Errorf("%s (%v)", d, err)
			}
			l.restart()
			if base := l.baseline(); base.Control.Owner != tt.owner || base.Accepted != (tt.owner == taken.Owner) {
				t.Errorf("the baseline is %+v", base)
			}
			if told, err := l.take(); told != nil || err != nil {
				t.Errorf("they are told again: %q, %v", told, err)
			}
		})
	}
}

func TestForgetRequests(t *testing.T) {
	l := newLife(t)
	l.audit("match", noon.Add(-time.Minute))
	l.audit("taken", noon)
	scan(t, l.state, kms, 150)
	for _, tt := range []struct {
		sentence   string
		target     state.Target
		configured []state.Target
		want       string
	}{
		{"a contract that is configured stays", kms, []state.Target{kms}, "forgetting " + kms.String() + ": it is configured; remove it from the configuration first"},
		{"one of another chain is not known", other, nil, "forgetting " + other.String() + ": no audit knows it"},
		{"one that is not is forgotten", kms, []state.Target{other}, "forgot " + kms.Contract.Hex()},
		{"and then it is not known", kms, nil, "forgetting " + kms.String() + ": no audit knows it"},
	} {
		must(t, state.Enqueue(l.path, forget(tt.target)))
		told, err := l.take(tt.configured...)
		if d := cmp.Diff([]string{tt.want}, told); d != "" || err != nil {
			t.Errorf("%s: %s (%v)", tt.sentence, d, err)
		}
	}
	s := view(t, l.path)
	p := s.Prior("base")
	if len(p.Contracts)+len(p.Open) > 0 || len(p.Blocks) != 1 {
		t.Errorf("%+v is known", p)
	}
	_, changes := s.Outbox()
	over := s.Resolved()
	if len(changes) != 1 || len(over) != 1 || changes[0].Type != audit.Resolved || changes[0].Finding.Kind != audit.OwnerChanged || !over[0].ResolvedAt.Equal(noon.Add(time.Hour)) ||
		!strings.HasSuffix(over[0].Finding.Message, "; the operator forgot the contract (ann, 2026-11-01T13:00:00Z)") {
		t.Errorf("the outbox is %+v, resolved are %+v", changes, over)
	}
	h := s.Timeline(state.Filter{Lists: []string{state.Contracts}})
	if len(h.Events) != 1 || h.Events[0].Actor != "ann" || h.Events[0].Change != "forgotten" || h.Events[0].ID != kms.Contract.Hex() || !h.Events[0].Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("the timeline is %+v", h.Events)
	}
	if len(s.Events(kms)) == 0 {
		t.Error("its timeline is gone")
	}
}

// TestForgottenForGood: a forgotten contract's findings do not open again if L1 contradicts a block.
func TestForgottenForGood(t *testing.T) {
	l := newLife(t)
	l.audit("taken", noon)
	prior := l.state.Prior("base")
	left := audit.OpenFinding{Contract: common.Address{1}.Hex()}
	prior.L1 = []audit.L1Block{{Number: 7, Ended: []audit.OpenFinding{{Contract: kms.Contract.Hex()}, left}}}
	l.state.Record(&audit.Report{Chains: []audit.Chain{{Chain: "base"}}}, map[string]audit.Prior{"base": prior}, nil)
	must(t, l.state.Apply(forget(kms), nil))
	if d := cmp.Diff([]audit.L1Block{{Number: 7, Ended: []audit.OpenFinding{left}}}, l.state.Prior("base").L1); d != "" {
		t.Error(d)
	}
}

func TestRequestsOfAKilledProcess(t *testing.T) {
	l := newLife(t)
	l.audit("taken", noon)
	if err := state.Enqueue(l.path, request(taken)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(state.RequestPath(l.path), state.RequestPath(l.path)+".taken"); err != nil {
		t.Fatal(err)
	}
	if err := state.Enqueue(l.path, request(control)); err != nil {
		t.Fatal(err)
	}
	first, err1 := l.take()
	second, err2 := l.take()
	if len(first) != 1 || first[0] != "accepted "+taken.Owner || len(second) != 1 || !strings.HasPrefix(second[0], "accepting") || err1 != nil || err2 != nil {
		t.Errorf("told %q, then %q (%v, %v)", first, second, err1, err2)
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	const head = `{"schema": "kms-auditor/requests/v1", "requests": [`
	for _, tt := range []struct{ sentence, content, want string }{
		{"no JSON", "accept", "invalid character"},
		{"nothing", "", "EOF"},
		{"another schema", `{"schema": "\u001b[2J", "requests": []}`, `its schema is "\x1b[2J", want one object of kms-auditor/requests/v1`},
		{"more than one object", head + "]}{}", "want one object"},
		{"more than an object", head + "]}}", "want one object"},
		{"an unknown field", head + `{"chain_id": 1}]}`, `unknown field "chain_id"`},
		{"a short address", head + `{"contract": "0x01"}]}`, "length"},
		{"far too much", strings.Repeat(" ", 1<<20+1), "it has more than 1048576 bytes"},
	} {
		l := newLife(t)
		if err := os.WriteFile(state.RequestPath(l.path), []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		told, err := l.take()
		if told != nil || err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 500 {
			t.Errorf("%s: the error is %v, want %q in it", tt.sentence, err, tt.want)
		}
		if told, err := l.take(); told != nil || err != nil {
			t.Errorf("%s: it is read again: %v", tt.sentence, err)
		}
		if err := os.WriteFile(state.RequestPath(l.path), []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		l.audit("taken", noon)
		if err := state.Enqueue(l.path, request(taken)); err != nil {
			t.Errorf("%s: no request can be left: %v", tt.sentence, err)
		}
		if told, _ := l.take(); len(told) != 1 {
			t.Errorf("%s: told %q", tt.sentence, told)
		}
	}
}

func TestNothingIsQueuedBesideNoFolder(t *testing.T) {
	if err := state.Enqueue(t.TempDir()+"/missing/state.db", request(taken)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}

// A field that the last report could not read is not accepted: the baseline keeps its old value.
func TestAcceptTakesWhatWasRead(t *testing.T) {
	l := newLife(t)
	was, is := control, taken
	was.GatewayAppID, was.AppImplementation, was.Read = "old", taken.Owner, []string{"gateway_app_id", "app_implementation"}
	is.AggregatedMRs, is.Read = []string{device}, []string{"app_implementation", "aggregated_mrs"} // apps have no implementation any more
	prior := audit.Prior{Contracts: []audit.Known{{Address: kms.Contract, Baseline: &audit.Baseline{Control: was, Since: noon}}}}
	l.state.Record(&audit.Report{AuditID: "A", FinishedAt: noon, Chains: []audit.Chain{{
		Chain: "base", ChainID: 8453, Block: &audit.Block{Number: 7, Time: noon}, Targets: []audit.Target{{Contract: kms.Contract.Hex(), Control: &is}},
	}}}, map[string]audit.Prior{"base": prior}, nil)
	l.restart()
	if d := cmp.Diff([]string{"owner", "app_implementation"}, l.state.Controlled()[0].Differs()); d != "" {
		t.Errorf("what differs: %s", d)
	}
	must(t, state.Enqueue(l.path, request(is)))
	if told, err := l.take(kms); len(told) != 1 || told[0] != "accepted "+taken.Owner || err != nil {
		t.Errorf("%q, %v", told, err)
	}
	l.restart()
	want := is
	want.GatewayAppID, want.Read = "old", []string{"gateway_app_id", "app_implementation", "aggregated_mrs"}
	if d := cmp.Diff(&audit.Baseline{Control: want, Since: noon.Add(time.Hour), Accepted: true}, l.baseline()); d != "" {
		t.Error(d)
	}
}

// An unread and unproven owner is not accepted as none.
func TestAcceptKeepsAnOwnerThatWasNotRead(t *testing.T) {
	for _, proven := range []bool{false, true} {
		l := newLife(t)
		is := taken
		is.Owner, is.Complete = "", proven
		prior := audit.Prior{Contracts: []audit.Known{{Address: kms.Contract, Baseline: &audit.Baseline{Control: control, Since: noon}}}}
		l.state.Record(&audit.Report{AuditID: "A", FinishedAt: noon, Chains: []audit.Chain{{
			Chain: "base", ChainID: 8453, Block: &audit.Block{Number: 7, Time: noon}, Targets: []audit.Target{{Contract: kms.Contract.Hex(), Control: &is}},
		}}}, map[string]audit.Prior{"base": prior}, nil)
		must(t, state.Enqueue(l.path, request(is)))
		if told, err := l.take(kms); len(told) != 1 || err != nil {
			t.Errorf("%q, %v", told, err)
		}
		if want := map[bool]string{false: control.Owner, true: ""}[proven]; l.baseline().Control.Owner != want {
			t.Errorf("proven %t: the owner is %q, want %q", proven, l.baseline().Control.Owner, want)
		}
	}
}
