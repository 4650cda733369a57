package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

func TestNoByteCanBeChanged(t *testing.T) {
	b, err := judged(t, byHand(t)).Encode()
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		changed := bytes.Clone(b)
		changed[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
		if _, err := evidence.Decode(bytes.NewReader(changed)); err == nil {
			t.Fatal("a changed byte is not noticed")
		}
	}
	for name, changed := range map[string][]byte{
		"cut": b[:len(b)-1], "longer": append(bytes.Clone(b), '\n'), "without its seal": b[:bytes.IndexByte(b, '\n')], "empty": nil,
	} {
		if _, err := evidence.Decode(bytes.NewReader(changed)); err == nil {
			t.Errorf("evidence that is %s is taken", name)
		}
	}
}

func TestDecodeIsStrict(t *testing.T) {
	good := string(document(t, judged(t, byHand(t))))
	today := fmt.Sprintf(`"rules":%d`, audit.Rules)
	for _, row := range []struct {
		sentence, old, new string
		refuted            bool
		says               string
	}{
		{"a forged report stands before the genuine one", `"report":{`, `"report":{"schema":"kms-auditor/report/v1"},"report":{`, true, `key "report" twice`},
		{"it differs in case", `"report":{`, `"Report":{"schema":"kms-auditor/report/v1"},"report":{`, true, `unknown key "Report"`},
		{"it stands alone", `"report":{`, `"REPORT":{`, true, `unknown key "REPORT"`},
		{"its letter is spelled as an escape", `"report":{`, `"\u0072eport":{},"report":{`, true, `key "report" twice`},
		{"it is another letter that folds to the same", `"chains":[`, "\"chain\u017f\":[],\"chains\":[", true, "unknown key"},
		{"a key deep inside is in another case", `"on_chain":"allowed"`, `"On_chain":"denied","on_chain":"allowed"`, true, `"On_chain"`},
		{"a key of an embedded struct is given twice", `"request_id":"r1"`, `"request_id":"r2","request_id":"r1"`, true, `"request_id" twice`},
		{"a header is given twice", `"Age":"0"`, `"Age":"1","Age":"0"`, true, `"Age" twice`},
		{"a key is unknown", `"rules":`, `"more":[[[[]]]],"rules":`, true, `"more"`},
		{"a list stands in place of a text", `"request_id":"r1"`, `"request_id":["r1"]`, true, "unexpected list or object"},
		{"an object stands in place of a time", `"started_at":"2026-01-02T12:00:00Z"`, `"started_at":{}`, true, "unexpected list or object"},
		{"a text stands in place of a number", today, `"rules":"2"`, true, "cannot unmarshal"},
		{"it is nested deeply", `"rules":`, `"report":` + strings.Repeat("[", 1<<16) + `,"rules":`, true, "unexpected list or object"},
		{"bytes are no text", `"r1"`, "\"\xff\"", true, "not UTF-8"},
		{"it ends early", `"state":"open"}]}`, `"state":"open"`, true, "after object key:value pair"},
		{"there is more", today, `"rules":2}{"rules":2`, true, "after top-level value"},
		{"there is no report", `"report":{`, `"report":null,"prior":{`, true, "unknown"},
		{"the rules are of before this format", today, `"rules":1`, true, "no report of a known schema and rules"},
		{"the rules are newer", today, fmt.Sprintf(`"rules":%d`, audit.Rules+1), false, "use a newer release"},
		{"the format is newer", `evidence/v2`, `evidence/v3`, false, "use a newer release"},
		{"the format is the first", `evidence/v2`, `evidence/v1`, false, "only the release that wrote it can read its format"},
	} {
		changed := strings.Replace(good, row.old, row.new, 1)
		if changed == good {
			t.Fatalf("%s: nothing was changed", row.sentence)
		}
		_, err := evidence.Decode(bytes.NewReader(sealed([]byte(changed))))
		if err == nil || errors.Is(err, evidence.ErrRefuted) != row.refuted || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
			continue
		}
		fit.Error(t, err, 500)
	}
	for _, b := range []string{"", "{}", "{}\n{}\n", "a\nb", good} {
		if _, err := evidence.Decode(strings.NewReader(b)); err == nil || errors.Is(err, evidence.ErrRefuted) || !strings.Contains(err.Error(), "it is not evidence") {
			t.Errorf("%.20q: %v, want that it is not evidence", b, err)
		}
	}
}

// TestLargeEvidenceIsTaken: what bounds hostile files leaves real ones alone.
func TestLargeEvidenceIsTaken(t *testing.T) {
	t.Parallel()
	r := byHand(t)
	before := noon.AddDate(0, 0, -1)
	for i := range 10_000 {
		id := common.Hash{0: 1, 30: byte(i >> 8), 31: byte(i)}
		answers := &r.Looks.First.Readings[0].Answers
		*answers = append(*answers, audit.Answer{List: audit.OSImage, ID: id, Allowed: true})
		o := open(audit.UnlistedChainAllowed, audit.OSImage, id.Hex())
		o.Finding.FirstSeen = &before
		r.Prior.Open = append(r.Prior.Open, o)
	}
	f := judged(t, r, byHand(t))
	if !bytes.Equal(document(t, f), document(t, again(t, f))) {
		t.Error("it is read as something else")
	}
	if _, err := evidence.Verify(t.Context(), f, nil); err != nil {
		t.Error(err)
	}
}

func TestNothingIsWrittenThatIsTooLarge(t *testing.T) {
	t.Parallel()
	f := judged(t, byHand(t))
	f.Chains[0].Nodes = [][]byte{make([]byte, 97<<20)}
	if _, err := f.Encode(); err == nil || !strings.Contains(err.Error(), "larger than 128 MiB") {
		t.Errorf("%v, want that it is too large", err)
	}
}

// TestNoMutationIsTaken changes the document anywhere and corrects the checksum. Unless refuted, it must be judged as before.
func TestNoMutationIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	told(w)
	for name, row := range map[string]struct {
		file *evidence.File
		n    int
	}{"by hand": {judged(t, byHand(t)), 7000}, "real": {w.evidence(), 3000}} {
		good := document(t, row.file)
		want := keys(row.file.Report)
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		refused, same := 0, 0
		for range row.n {
			changed := mutation(t, random, good)
			f, err := evidence.Decode(bytes.NewReader(fmt.Appendf(nil, "%s\n{\"sha256\":\"%x\"}\n", changed, sha256.Sum256(changed))))
			var r *evidence.Result
			if err == nil {
				r, err = evidence.Verify(t.Context(), f, nil)
			}
			if err != nil {
				refused++
				continue
			}
			same++
			if diff := cmp.Diff(want, keys(r.Report)); diff != "" || r.Verdict() != row.file.Report.Verdict {
				t.Fatalf("%s, seed %d: another report (-want +got):\n%s", name, seed, diff)
			}
		}
		t.Logf("%s, seed %d: %d refused, %d judged as before", name, seed, refused, same)
	}
}

// mutation changes a byte, or a value of the tree.
func mutation(t *testing.T, random *rand.Rand, good []byte) []byte {
	if random.IntN(2) == 0 {
		b := bytes.Clone(good)
		b[random.IntN(len(b))] = good[random.IntN(len(good))]
		return b
	}
	var tree any
	must(t, json.Unmarshal(good, &tree))
	all := places(&tree, nil)
	all[random.IntN(len(all))](byte(random.IntN(256)), byte(random.IntN(256)))
	b, err := json.Marshal(tree)
	must(t, err)
	return b
}
