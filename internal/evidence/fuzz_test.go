package evidence_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

var update = flag.Bool("update", false, "write a file of this format into testdata")

// released is a file of each format that was ever released, from format 2 on. It stays there, and must verify.
var released = map[string]audit.Verdict{"testdata/v2.json.gz": audit.Drift}

func TestEvidenceOfEarlierReleases(t *testing.T) {
	if *update {
		w := newWorld(t)
		told(w)
		lists(w)
		b, err := w.evidence().Pack(".gz")
		must(t, err)
		must(t, os.WriteFile("testdata/v2.json.gz", b, 0o600))
	}
	for name, want := range released {
		r, err := evidence.Verify(t.Context(), sample(t, name), nil)
		if err != nil || r.Reported != want {
			t.Errorf("%s verifies as %+v (%v)", name, r, err)
		}
	}
}

func sample(t testing.TB, name string) *evidence.File {
	t.Helper()
	in, err := os.Open(name)
	must(t, err)
	defer in.Close()
	f, err := evidence.Decode(in)
	must(t, err)
	return f
}

// FuzzDecode holds that a document is decoded to what it says, packed or not: written again, it has the same values under the
// same keys.
func FuzzDecode(f *testing.F) {
	f.Add(document(f, sample(f, "testdata/v2.json.gz")), false)
	f.Add(document(f, judged(f, byHand(f))), true)
	f.Add([]byte(`{"schema":"\u001b[2J"}`), false)
	f.Add([]byte(`{"schema":"kms-auditor/evidence/v2","rules":2,"report":{"schema":"kms-auditor/report/v1","chains":null},"chains":[{}]}`), true)
	f.Add([]byte(`{"schema":"kms-auditor/evidence/v2","rules":2,"Report":{}}`), false)
	f.Fuzz(func(t *testing.T, b []byte, pack bool) {
		in := sealed(b)
		if pack {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(in)
			z.Close()
			in = packed.Bytes()
		}
		file, err := evidence.Decode(bytes.NewReader(in))
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		if !bytes.Equal(document(t, file), document(t, again(t, file))) {
			t.Error("it is read as something else")
		}
		var was, is any
		must(t, json.Unmarshal(b, &was))
		must(t, json.Unmarshal(document(t, file), &is))
		if key := unheard(was, is); key != "" {
			t.Errorf("%q was passed over", key)
		}
	})
}

// unheard returns a key of a tree that another one lacks, unless what it says is nothing.
func unheard(was, is any) string {
	switch was := was.(type) {
	case map[string]any:
		is, _ := is.(map[string]any)
		for k, v := range was {
			if inner, there := is[k]; !there && !empty(v) {
				return k
			} else if key := unheard(v, inner); key != "" {
				return key
			}
		}
	case []any:
		is, _ := is.([]any)
		for i := range min(len(was), len(is)) {
			if key := unheard(was[i], is[i]); key != "" {
				return key
			}
		}
	}
	return ""
}

func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return v == nil || v == "" || v == 0.0 || v == false
}

// FuzzVerify changes evidence anywhere, seals it anew, and holds that whatever still verifies tells of what is proven what
// the untouched file tells. Three bytes are a change: which value, how, and by which.
func FuzzVerify(f *testing.F) {
	var documents [][]byte
	truth := map[fact]audit.ChainState{}
	for name := range released {
		good := sample(f, name)
		documents = append(documents, document(f, good))
		maps.Copy(truth, proven(good.Report))
	}
	documents = append(documents, document(f, judged(f, byHand(f))))
	for i := range 12 {
		f.Add([]byte{byte(20 * i), 0, 0, byte(20*i + 7), 1, 3, byte(20*i + 11), 2, 77}, byte(i))
	}
	f.Fuzz(func(t *testing.T, changes []byte, which byte) {
		var tree any
		must(t, json.Unmarshal(documents[int(which)%len(documents)], &tree))
		for c := range slices.Chunk(changes, 3) {
			if all := places(&tree, nil); len(c) == 3 {
				all[(int(c[0])*7+int(c[1]&0xf0))%len(all)](c[1]&0x0f, c[2])
			}
		}
		body, err := json.Marshal(tree)
		must(t, err)
		file, err := evidence.Decode(bytes.NewReader(sealed(body)))
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		r, err := evidence.Verify(t.Context(), file, nil)
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		for _, sentence := range slices.Concat(r.Checked, r.Trusted) {
			fit.Text(t, sentence, 1000)
		}
		for at, says := range proven(r.Report) {
			if was, known := truth[at]; known && was != says {
				t.Errorf("%v verifies as %s, and is %s", at, says, was)
			}
		}
	})
}

// fact is an id of a contract's list at one block.
type fact struct {
	block, contract string
	list            audit.List
	id              string
}

func proven(r *audit.Report) map[fact]audit.ChainState {
	out := map[fact]audit.ChainState{}
	for _, c := range r.Chains {
		for _, t := range c.Targets {
			for _, e := range t.Entries {
				if e.Assurance == audit.Proven && c.Block != nil {
					out[fact{c.Block.Hash, t.Contract, e.List, e.ID}] = e.OnChain
				}
			}
		}
	}
	return out
}

// places lists how to change each value of a tree: leave it out, put another in its place, or change a character.
func places(root *any, set func(any)) (out []func(how, by byte)) {
	switch v := (*root).(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			inner := v[k]
			out = append(out, places(&inner, func(to any) { v[k] = to })...)
		}
	case []any:
		for i := range v {
			out = append(out, places(&v[i], func(to any) { v[i] = to })...)
		}
		if set != nil && len(v) > 0 {
			out = append(out, func(how, _ byte) {
				if how%2 == 0 {
					set(v[1:])
				} else {
					set(append(v, v[0]))
				}
			})
		}
	}
	if set == nil {
		return append(out, func(byte, byte) {})
	}
	return append(out, func(how, by byte) {
		s, text := (*root).(string)
		n, number := (*root).(float64)
		switch {
		case how == 0:
			set(nil)
		case how == 1:
			set([]any{"", true, false, float64(by), []any{}, map[string]any{}, "0x", strings.Repeat("0", int(by))}[by%8])
		case text && s != "":
			b := []byte(s)
			b[int(by)*len(b)/256] = "0123456789abcdef\x1bZ\xff "[(int(how)+int(by))%20]
			set(string(b))
		case number:
			set(n + float64(by) - 128)
		}
	})
}
