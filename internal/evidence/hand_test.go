package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/internal/evidence"
	"github.com/kms-auditor/kms-auditor/internal/footprint"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

var (
	at         = common.HexToAddress("0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C")
	dev1, dev2 = id("d1"), id("d2")
	hidden     = id("ee")
	noon       = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
)

func id(b string) common.Hash { return common.HexToHash(strings.Repeat(b, 32)) }

// byHand is the record of an audit without proofs: the API lists dev1 as allowed and dev2 as denied, the contract
// allows dev1 and hidden, and both looks see that.
func byHand(t testing.TB) observe.Record {
	t.Helper()
	body := fmt.Sprintf(`{"chain_name":"base","chain_id":8453,"contracts":[{"contract_address":"%s","chain_id":8453,"chain_name":"base","devices":[`+
		`{"device_id":"%s","node_name":"prod1","on_chain_allowed":true},{"device_id":"%s","on_chain_allowed":false}],"os_images":[]}]}`, at.Hex(), dev1.Hex(), dev2.Hex())
	detail, err := kmsapi.Decode([]byte(body))
	must(t, err)
	sum := sha256.Sum256([]byte(body))
	detail.Source = kmsapi.Source{FetchedAt: noon, SHA256: hex.EncodeToString(sum[:]), APIVersion: "2026-06-23", RequestID: "r1", Body: body, Header: map[string]string{"Age": "0"}}
	block := audit.Block{Number: 100, Hash: id("b1").Hex(), Time: noon}
	known := func(s string) audit.Field { return audit.Field{Known: true, Value: s} }
	look := audit.Observation{
		At: noon, Tag: "finalized", Block: &block, Head: &block, Provider: "first", Claim: observe.ClaimOf(detail),
		Readings: []audit.Reading{{
			Contract: at, Provider: "first", HasCode: true, Assurance: audit.Single, Events: &audit.EventScan{Read: true},
			Answers: []audit.Answer{
				{List: audit.Device, ID: dev1, Allowed: true}, {List: audit.Device, ID: dev2}, {List: audit.Device, ID: hidden, Allowed: true},
			},
			Control: audit.Controls{
				Owner: known(common.Address{1}.Hex()), PendingOwner: known(""), Implementation: known(common.Address{2}.Hex()), Code: footprint.Code{Accounts: []footprint.Account{
					{Address: at.Hex(), Role: footprint.Proxy, CodeHash: id("c0").Hex()}, {Address: common.Address{2}.Hex(), Role: footprint.Implementation, CodeHash: id("c1").Hex()},
				}},
			},
		}},
		Failures: []audit.Failure{{SourceError: audit.SourceError{Stage: audit.StageRPC, Source: "second", Message: "it is asleep"}}},
	}
	second := look
	second.At = noon.Add(time.Minute)
	return observe.Record{
		Intent: audit.Intent{Chain: "base", ChainID: 8453, Tags: []string{"finalized"}, Events: true, Baselines: true, Contracts: []audit.ContractIntent{{
			Address: at, Policy: audit.Policy{Devices: []common.Hash{dev1, hidden}},
		}}},
		Prior: audit.Prior{
			Blocks:    []audit.AuditedBlock{{Tag: "finalized", Number: 99}},
			Contracts: []audit.Known{{Address: at, Since: noon.AddDate(0, -1, 0), Devices: []common.Hash{dev1}}},
			Open:      []audit.OpenFinding{open(audit.OwnerChanged, "", ""), open(audit.ClaimAllowedChainDenied, audit.Device, dev1.Hex())},
		},
		Looks: audit.Looks{First: look, Second: &second},
		Raw:   observe.Raw{First: observe.RawLook{Claim: &detail.Source}, Second: observe.RawLook{Claim: &detail.Source}},
	}
}

// open is a finding that an earlier audit left open.
func open(k audit.Kind, list audit.List, id string) audit.OpenFinding {
	before := noon.AddDate(0, 0, -1)
	return audit.OpenFinding{Contract: at.Hex(), Logged: before, Block: 99, Assurance: audit.Single, Finding: audit.Finding{
		Kind: k, Severity: k.Severity(), List: list, ID: id, Message: "what was wrong", FirstSeen: &before, LastConfirmedAt: &before, State: audit.Confirmed,
	}}
}

// judged is the evidence of a record, with the report that comes of it.
func judged(t testing.TB, records ...observe.Record) *evidence.File {
	t.Helper()
	var chains []audit.Chain
	for _, r := range records {
		chains = append(chains, audit.Judge(r.Intent, r.Prior, r.Looks).Chain)
	}
	f, err := evidence.New(audit.NewReport("A1", "test", noon, noon.Add(time.Minute), chains), records)
	must(t, err)
	return f
}

// again returns the file after encoding and decoding.
func again(t testing.TB, f *evidence.File) *evidence.File {
	t.Helper()
	b, err := f.Encode()
	must(t, err)
	out, err := evidence.Decode(bytes.NewReader(b))
	must(t, err)
	return out
}

// sealed is a changed document with a new checksum.
func sealed(body []byte) []byte {
	return fmt.Appendf(bytes.Clone(body), "\n{\"sha256\":\"%x\"}\n", sha256.Sum256(body))
}

func document(t testing.TB, f *evidence.File) []byte {
	t.Helper()
	b, err := json.Marshal(f)
	must(t, err)
	return b
}

// keys is what verify promises to compare, of its own making.
func keys(r *audit.Report) string {
	lines := []string{fmt.Sprint(r.Verdict)}
	for _, c := range r.Chains {
		lines = append(lines, fmt.Sprint(c.Chain, c.Verdict, *orZero(c.Block)))
		for _, x := range c.Targets {
			lines = append(lines, fmt.Sprint(x.Contract, x.Verdict, x.Assurance, x.Completeness, *orZero(x.Control)))
			for _, e := range x.Entries {
				lines = append(lines, fmt.Sprint(e.List, e.ID, e.Claim, e.OnChain, e.Policy, e.Verdict, e.Kind))
			}
			for _, f := range x.Findings {
				lines = append(lines, fmt.Sprint(f.Kind, f.List, f.ID, f.State))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
