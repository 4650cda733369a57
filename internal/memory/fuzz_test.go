package memory_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/fit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/memory"
)

// names are those of all blobs; the last one is of a contract.
var names = []string{"findings", "audits", "last:base", "compared:base", "baseline"}

// FuzzNew puts any text in the place of one blob, and holds that the memory is refused in short, or can be told, and
// kept on, and is then what it was.
func FuzzNew(f *testing.F) {
	found, err := json.Marshal(report("drift", noon))
	if err != nil {
		f.Fatal(err)
	}
	last := bytes.TrimSuffix(bytes.SplitN(found, []byte(`"chains":[`), 2)[1], []byte("]}"))
	for name := range names {
		for _, s := range []string{"null", "{}", "[]", "[{}]", `{"open":[{}],"resolved":[{}]}`, `{"chain":"base","targets":[{"contract":"0x\u001b"}],"block":{}}`, "\x1f\x8b", string(last), "[" + string(last) + "]",
			`{"control":{"owner":"\u001b"},"since":"2026-11-01T12:00:00Z","accepted":true}`, `{"since":"\u001b"}`, `{"verdict":"\u001b"}`, `{"duration":"x"}`, `{"claim":{"fetched_at":"2026\u007f"}}`, `{"since":"\u007f"}`} {
			f.Add(name, []byte(s), true)
		}
		f.Add(name, []byte("null"), false)
	}
	f.Fuzz(func(t *testing.T, which int, text []byte, packed bool) {
		store, err := history.Open("")
		if err != nil {
			t.Fatal(err)
		}
		m, err := memory.New(store)
		if err != nil {
			t.Fatal(err)
		}
		tracker := audit.NewTracker(nil)
		for i, what := range []string{"drift", "down"} {
			r := report(what, noon.Add(time.Duration(i)*time.Minute))
			if err := m.Keep(r, tracker.Open(), tracker.Update(r)); err != nil {
				t.Fatal(err)
			}
		}
		name := names[uint(which)%uint(len(names))]
		of, data := history.Target{}, text
		if name == "baseline" {
			of = target
		} else if packed {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write(text)
			z.Close()
			data = b.Bytes()
		}
		if err := store.Save(of, name, data); err != nil {
			t.Fatal(err)
		}
		if m, err = memory.New(store); err != nil {
			fit.Error(t, err, 500)
			return
		}
		before := everything(t, m)
		if before == nil {
			return
		}
		if m, err = memory.New(store); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, everything(t, m)); diff != "" {
			t.Errorf("read again (-want +got):\n%s", diff)
		}
		tracker = audit.NewTracker(m.Open())
		r := report("match", noon.Add(time.Hour))
		changes := tracker.Update(r)
		if err := m.Keep(r, tracker.Open(), changes); err != nil {
			t.Fatal(err)
		}
		if m, err = memory.New(store); err != nil || everything(t, m) == nil {
			t.Errorf("what is kept after it cannot be read: %v", err)
		}
	})
}

// everything is all that m tells; nil: it says in short why it cannot.
func everything(t *testing.T, m *memory.Memory) map[string]any {
	t.Helper()
	last, err1 := m.Report()
	compared, err2 := m.Compared()
	who, err3 := m.Controlled()
	if err := errors.Join(err1, err2, err3); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fit.Text(t, line, 500)
		}
		return nil
	}
	for _, c := range compared {
		if !c.Compared() {
			t.Errorf("chain %q has not compared", c.Chain.Chain)
		}
	}
	return map[string]any{"last": last, "compared": compared, "controlled": who, "open": m.Open(), "resolved": m.Resolved()}
}

// FuzzTake leaves any file beside the state, and holds that it is gone afterwards, that a refusal is short, and that
// nothing becomes a baseline but what the last audit saw.
func FuzzTake(f *testing.F) {
	const head = `{"schema": "kms-auditor/accepted/v1", "requests": [`
	good, err := json.Marshal(request(taken))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "null", "accept", head + "]}", head + string(good) + "]}", head + string(good) + "," + string(good) + "]}", head + "null]}", head + "]}{}", head + `{"chain": 1}]}`, head + `{"contract": "0x01"}]}`,
		head + strings.ReplaceAll(string(good), taken.Owner, `\u001b[2J`) + "]}", `{"schema": "\u001b[2J"}`, `{"\u001b": 1}`, head + `{"at": "\u001b"}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLife(t)
		l.audit("taken", noon)
		if err := os.WriteFile(memory.RequestPath(l.path), content, 0o600); err != nil {
			t.Fatal(err)
		}
		err := l.memory.Take(l.path, func(_ memory.Request, err error) {
			if err != nil {
				fit.Error(t, err, 500)
			}
		})
		if err != nil {
			fit.Error(t, err, 1000)
		}
		for _, path := range []string{memory.RequestPath(l.path), memory.RequestPath(l.path) + ".taken"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
		}
		all, err := l.memory.Controlled()
		if err != nil || len(all) != 1 || all[0].Baseline != nil && all[0].Baseline.Control != taken {
			t.Errorf("%+v, %v", all, err)
		}
		l.restart()
	})
}
