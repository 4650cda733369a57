package state_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzOpen opens any bytes, or a file whose object or events are spoilt under a right checksum. It is refused in short, or
// can be read, kept on, and is then what it was.
func FuzzOpen(f *testing.F) {
	whole := sample(f)
	z, err := gzip.NewReader(bytes.NewReader(whole[body(whole):]))
	must(f, err)
	content, err := io.ReadAll(z)
	must(f, err)
	n := binary.BigEndian.Uint64(content)
	object, events := content[8:8+n], content[8+n:]
	for _, s := range []string{"null", "{}", "[]", `{"chains":[null]}`, `{"chains":[{"name":"base","last":{},"prior":{"open":[{}]}}]}`, `{"scans":[{"chain":"base","events":18446744073709551615}]}`,
		`{"chains":[{"name":"\u001b","last":{"targets":[{"contract":"0x\u001b"}],"block":{}}}],"resolved":[{}]}`, `{"outbox":{"changes":[{}]}}`, string(object)} {
		f.Add([]byte(s), events, false)
	}
	f.Add(object, []byte("short"), false)
	f.Add(whole, []byte{}, true)
	f.Add([]byte("chains: []\n"), []byte{}, true)
	f.Add(released(f, "schema2"), []byte{}, true)
	f.Fuzz(func(t *testing.T, object, events []byte, raw bool) {
		b := object
		if !raw {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(binary.BigEndian.AppendUint64(nil, uint64(len(object))))
			z.Write(object)
			z.Write(events)
			z.Close()
			b = sign(append(append([]byte("kms-auditor state 3\n"), make([]byte, 32)...), packed.Bytes()...))
		}
		path := file(t)
		write(t, path, b)
		s, err := state.Open(path)
		if err != nil {
			fit.Error(t, err, 1000)
			_, err := state.ResetFile(path)
			must(t, err)
			return
		}
		before := read(s)
		_, _, _ = s.Controlled(), s.Report(), s.Explain(device, state.Filter{}, nil, nil)
		s.Record(&audit.Report{}, nil, nil)
		must(t, s.Close())
		s = open(t, path)
		if diff := differ(before, read(s)); diff != "" {
			t.Errorf("read again (-want +got):\n%s", diff)
		}
		s.SetChainID("base", 8453)
		r, out := judge(s.Prior("base"), "match", noon.Add(time.Hour))
		s.Record(r, map[string]audit.Prior{"base": out.Next}, out.Changes)
		must(t, s.Close())
		view(t, path)
	})
}

// FuzzDrain leaves any file beside the state, and holds that it is gone afterwards, that a refusal is short, and that
// nothing becomes a baseline but what the last audit saw.
func FuzzDrain(f *testing.F) {
	const head = `{"schema": "kms-auditor/requests/v1", "requests": [`
	good, err := json.Marshal(request(taken))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "null", "accept", head + "]}", head + string(good) + "]}", head + string(good) + "," + string(good) + "]}", head + "null]}", head + "]}{}", head + `{"chain": 1}]}`, head + `{"contract": "0x01"}]}`,
		head + strings.ReplaceAll(string(good), taken.Owner, `\u001b[2J`) + "]}", `{"schema": "\u001b[2J"}`, `{"\u001b": 1}`, head + `{"at": "\u001b"}]}`, head + `{"kind": "forget", "chain": "base", "contract": "` + kms.Contract.Hex() + `"}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLife(t)
		l.audit("match", noon.Add(-time.Minute))
		l.audit("taken", noon)
		if err := os.WriteFile(state.RequestPath(l.path), content, 0o600); err != nil {
			t.Fatal(err)
		}
		err := l.state.Drain(l.path, map[state.Target]bool{kms: true}, func(_ state.Request, err error) {
			if err != nil {
				fit.Error(t, err, 500)
			}
		})
		if err != nil {
			fit.Error(t, err, 1000)
		}
		for _, path := range []string{state.RequestPath(l.path), state.RequestPath(l.path) + ".taken"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
		}
		if base := l.baseline(); base == nil || !cmp.Equal(base.Control, control) && !cmp.Equal(base.Control, taken) {
			t.Errorf("the baseline is %+v", base)
		}
		l.restart()
	})
}

// FuzzFind holds that a text means an id only where it is that id, its beginning or its name, and no two.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"", "0x", imageID(1).Hex(), strings.ToUpper(imageID(2).Hex()), imageID(1).Hex()[:10], imageID(1).Hex()[2:12], imageID(1).Hex()[:9], "00000007", "0x00000001g", "dstack-1", "\x1b[2J", strings.Repeat("0", 400), id(7).Hex()} {
		f.Add(s)
	}
	twin := event(30, 1, true, 2)
	twin.Key[31] = 0xff
	p := remember(f, map[state.Target][]state.Event{kms: {event(10, 1, true, 1), event(20, 2, true, 1), twin}},
		report(1000, 5, image(1, audit.ClaimAllowed, audit.ChainAllowed, ""), image(3, audit.ClaimAllowed, audit.ChainAllowed, "")))
	known := map[string]string{imageID(1).Hex(): "dstack-1", imageID(2).Hex(): "", imageID(3).Hex(): "dstack-3", twin.Key.Hex(): ""}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := p.Find(s, state.Filter{})
		if whole, bad := sanitize.ParseID(s); bad == nil {
			if got != whole.Hex() || err != nil {
				t.Errorf("%q is found as %q (%v)", s, got, err)
			}
			return
		}
		digits := strings.ToLower(s)
		digits = strings.TrimPrefix(digits, "0x")
		var fits []string
		for id, name := range known {
			if len(digits) >= 8 && strings.HasPrefix(id[2:], digits) || s != "" && name == s {
				fits = append(fits, id)
			}
		}
		switch {
		case err != nil:
			fit.Error(t, err, 1500)
			if len(fits) < 2 {
				t.Errorf("%q may only be %q: %v", s, fits, err)
			}
		case len(fits) > 1, len(fits) == 1 && got != fits[0], len(fits) == 0 && got != "":
			t.Errorf("%q is found as %q, and may be %q", s, got, fits)
		}
	})
}
