package memory_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

func request(c audit.Control) memory.Request {
	return memory.Request{ChainID: 8453, Contract: contract, Control: c, At: noon.Add(time.Hour)}
}

// take returns what became of each request, and the error of all.
func (l *life) take() (told []string, err error) {
	err = l.memory.Take(l.path, func(r memory.Request, err error) {
		if err != nil {
			told = append(told, err.Error())
		} else {
			told = append(told, "accepted "+r.Control.Owner)
		}
	})
	return told, err
}

func TestRequests(t *testing.T) {
	stranger := request(taken)
	stranger.Contract = common.Address{1}
	const refused = "accepting the control over 0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C on chain 8453: the last report, of block 1793534400, sees another one than the request"
	for _, tt := range []struct {
		sentence string
		left     []memory.Request
		told     []string
		owner    string // of the baseline afterwards
	}{
		{"nothing is asked", nil, nil, control.Owner},
		{"what was seen is accepted", []memory.Request{request(taken)}, []string{"accepted " + taken.Owner}, taken.Owner},
		{"what is no longer seen is not", []memory.Request{request(control)}, []string{refused}, control.Owner},
		{"the later one of a contract counts", []memory.Request{request(control), request(taken)}, []string{"accepted " + taken.Owner}, taken.Owner},
		{"a contract that nobody has seen", []memory.Request{stranger, request(taken)},
			[]string{"accepting the control over 0x0100000000000000000000000000000000000000 on chain 8453: no audit has seen it", "accepted " + taken.Owner}, taken.Owner},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			l := newLife(t)
			if err := l.memory.Baselines(8453).Begin(contract, audit.Baseline{Control: control, Since: noon}); err != nil {
				t.Fatal(err)
			}
			l.audit("taken", noon)
			l.audit("down", noon.Add(time.Minute))
			for _, r := range tt.left {
				if err := memory.Leave(l.path, r); err != nil {
					t.Fatal(err)
				}
			}
			if info, err := os.Stat(memory.RequestPath(l.path)); len(tt.left) > 0 && (err != nil || info.Mode() != 0o600) {
				t.Errorf("the file's mode is %v (%v)", info.Mode(), err)
			}
			l.restart()
			told, err := l.take()
			if d := cmp.Diff(tt.told, told); d != "" || err != nil {
				t.Errorf("%s (%v)", d, err)
			}
			l.restart()
			if base, _ := l.memory.Baselines(8453).Baseline(contract); base.Control.Owner != tt.owner || base.Accepted != (tt.owner == taken.Owner) {
				t.Errorf("the baseline is %+v", base)
			}
			if told, err := l.take(); told != nil || err != nil {
				t.Errorf("they are told again: %q, %v", told, err)
			}
		})
	}
}

func TestRequestsOfAKilledProcess(t *testing.T) {
	l := newLife(t)
	l.audit("taken", noon)
	if err := memory.Leave(l.path, request(taken)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(memory.RequestPath(l.path), memory.RequestPath(l.path)+".taken"); err != nil {
		t.Fatal(err)
	}
	if err := memory.Leave(l.path, request(control)); err != nil {
		t.Fatal(err)
	}
	first, err1 := l.take()
	second, err2 := l.take()
	if len(first) != 1 || first[0] != "accepted "+taken.Owner || len(second) != 1 || !strings.HasPrefix(second[0], "accepting") || err1 != nil || err2 != nil {
		t.Errorf("told %q, then %q (%v, %v)", first, second, err1, err2)
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	const head = `{"schema": "kms-auditor/accepted/v1", "requests": [`
	for _, tt := range []struct{ sentence, content, want string }{
		{"no JSON", "accept", "invalid character"},
		{"nothing", "", "EOF"},
		{"another schema", `{"schema": "\u001b[2J", "requests": []}`, `its schema is "\x1b[2J", want one object of kms-auditor/accepted/v1`},
		{"more than one object", head + "]}{}", "want one object"},
		{"more than an object", head + "]}}", "want one object"},
		{"an unknown field", head + `{"chain": 1}]}`, `unknown field "chain"`},
		{"a short address", head + `{"contract": "0x01"}]}`, "length"},
		{"far too much", strings.Repeat(" ", 1<<20+1), "it has more than 1048576 bytes"},
	} {
		l := newLife(t)
		if err := os.WriteFile(memory.RequestPath(l.path), []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		told, err := l.take()
		if told != nil || err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 500 {
			t.Errorf("%s: the error is %v, want %q in it", tt.sentence, err, tt.want)
		}
		if told, err := l.take(); told != nil || err != nil {
			t.Errorf("%s: it is read again: %v", tt.sentence, err)
		}
		if err := os.WriteFile(memory.RequestPath(l.path), []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		l.audit("taken", noon)
		if err := memory.Leave(l.path, request(taken)); err != nil {
			t.Errorf("%s: no request can be left: %v", tt.sentence, err)
		}
		if told, _ := l.take(); len(told) != 1 {
			t.Errorf("%s: told %q", tt.sentence, told)
		}
	}
}

func TestLeavingBesideNoFolder(t *testing.T) {
	if err := memory.Leave(t.TempDir()+"/missing/state.db", request(taken)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
