package evidence_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/fit"
)

var update = flag.Bool("update", false, "write the evidence in testdata anew")

// sample is an evidence file of an earlier day: of an operator who says much, or of a provider without proofs.
func sample(t testing.TB, name string) *evidence.File {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".json.gz")
	must(t, err)
	return decode(t, b)
}

func TestEvidenceOfAnEarlierDay(t *testing.T) {
	for name, change := range map[string]func(*world){"told": told, "believed": func(w *world) { w.proxy.Set(noProof); denied(w) }} {
		if *update {
			b, err := decode(t, newWorldEvidence(t, change)).Pack(".gz")
			must(t, err)
			must(t, os.WriteFile("testdata/"+name+".json.gz", b, 0o600))
		}
		r, believed, err := evidence.Verify(t.Context(), sample(t, name))
		if err != nil || (len(believed) > 0) != (name == "believed") || r.Verdict != audit.Drift {
			t.Errorf("%s verifies as %+v, believing %q (%v)", name, r, believed, err)
		}
	}
}

// FuzzDecode holds that evidence is taken only under the digest of its first line, packed or not, and reads the same
// when it is written again.
func FuzzDecode(f *testing.F) {
	good, err := json.Marshal(sample(f, "told"))
	must(f, err)
	f.Add(good, true, true)
	f.Add(good, true, false)
	f.Add(good, false, true)
	f.Add([]byte(`{"schema":"\u001b[2J"}`), true, false)
	f.Add([]byte(`{"schema":"kms-auditor/evidence/v1","report":{"schema":"kms-auditor/report/v1","chains":[{}]}}`), true, false)
	f.Add([]byte(`{"schema":"kms-auditor/evidence/v1","report":{"schema":"kms-auditor/report/v1","chains":null}}`), true, false)
	f.Add([]byte(`{"\u001b":1}`), true, true)
	f.Add([]byte("\x1f\x8b"), false, false)
	f.Add([]byte("{}\n{}"), false, true)
	f.Fuzz(func(t *testing.T, b []byte, seal, pack bool) {
		if seal {
			sum := sha256.Sum256(b)
			b = append(bytes.Clone(b), "\n{\"sha256\":\""+hex.EncodeToString(sum[:])+"\"}\n"...)
		}
		plain := b
		if pack {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			z.Write(b)
			z.Close()
			b = packed.Bytes()
		}
		file, err := evidence.Decode(bytes.NewReader(b))
		if err != nil {
			fit.Error(t, err, 500)
			return
		}
		body, last, _ := strings.Cut(string(plain), "\n")
		if sum := sha256.Sum256([]byte(body)); !strings.Contains(last, hex.EncodeToString(sum[:])) && plain[0] != 0x1f {
			t.Errorf("taken without its digest: %.300q", plain)
		}
		again, err := file.Encode()
		must(t, err)
		reread, err := evidence.Decode(bytes.NewReader(again))
		if diff := cmp.Diff(file, reread); err != nil || diff != "" {
			t.Errorf("read again: %v (-want +got):\n%s", err, diff)
		}
	})
}

// FuzzVerify changes sample evidence anywhere, seals it anew, and holds that whatever still verifies tells of what is
// proven what the sample tells. Three bytes are a change: which value, how, and by which.
func FuzzVerify(f *testing.F) {
	asJSON := map[bool][]byte{}
	truth := map[fact]audit.ChainState{}
	for believes, name := range map[bool]string{false: "told", true: "believed"} {
		good := sample(f, name)
		b, err := json.Marshal(good)
		must(f, err)
		asJSON[believes] = b
		maps.Copy(truth, proven(good.Report))
	}
	for i := range 12 {
		f.Add([]byte{byte(20 * i), 0, 0, byte(20*i + 7), 1, 3, byte(20*i + 11), 2, 77}, i%2 == 0)
	}
	f.Add([]byte{}, false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, changes []byte, believes bool) {
		var tree any
		must(t, json.Unmarshal(asJSON[believes], &tree))
		for c := range slices.Chunk(changes, 3) {
			if all := places(&tree, nil); len(c) == 3 {
				all[(int(c[0])*7+int(c[1]&0xf0))%len(all)](c[1]&0x0f, c[2])
			}
		}
		body, err := json.Marshal(tree)
		must(t, err)
		sum := sha256.Sum256(body)
		file, err := evidence.Decode(strings.NewReader(string(body) + "\n{\"sha256\":\"" + hex.EncodeToString(sum[:]) + "\"}\n"))
		if err != nil {
			fit.Error(t, err, 1000)
			return
		}
		r, believed, err := evidence.Verify(t.Context(), file)
		if err != nil {
			if strings.Contains(err.Error(), "a bug in") {
				t.Error(err)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				fit.Text(t, line, 2000)
			}
			return
		}
		for _, sentence := range believed {
			fit.Text(t, sentence, 1000)
		}
		for at, says := range proven(r) {
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
