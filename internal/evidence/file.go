// Package evidence keeps what the verdict of an audit rests on, and re-derives the verdict from it, offline.
//
// A Recorder (record.go) stands between an audit and its sources and notes what they give. File (file.go) is that with
// the report, as docs/evidence.md and docs/evidence.schema.json describe it. Verify (verify.go) plays it back to the
// audit's own code: what is proven is proven again, from a block's hash on, and the outcome must be the report.
package evidence

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// Schema names the shape of File's JSON.
const Schema = "kms-auditor/evidence/v1"

// maxFile bounds an evidence file, unpacked.
const maxFile = 512 << 20

// File is the evidence of one audit.
type File struct {
	Schema     string        `json:"schema"`
	Report     *audit.Report `json:"report"`
	PendingMax time.Duration `json:"pending_max"` // nanoseconds
	Chains     []Chain       `json:"chains"`
}

// Chain is what the judgement on one chain rests on. The lists are in the order in which the audit asked.
type Chain struct {
	Chain       string                    `json:"chain"`
	ChainID     uint64                    `json:"chain_id"`
	Policies    []string                  `json:"policies"`
	Contracts   []common.Address          `json:"contracts,omitempty"` // the configured ones
	Required    bool                      `json:"required,omitempty"`  // what is not proven is unknown
	Explained   map[common.Address][]Slot `json:"explained_slots,omitempty"`
	Wanted      map[common.Address]Policy `json:"policy,omitempty"`
	Accept      []Accept                  `json:"accept,omitempty"`
	Watched     bool                      `json:"watched,omitempty"` // control is held against baselines
	Listed      bool                      `json:"listed,omitempty"`  // the list of KMS is held against the rest
	Began       time.Time                 `json:"began"`
	Interrupted string                    `json:"interrupted,omitempty"` // why there was no second pass
	Claims      []Claim                   `json:"claims"`
	Lists       []Listing                 `json:"lists,omitempty"`
	Reads       []Read                    `json:"reads"`

	// Baselines are what was known before the audit.
	Baselines map[common.Address]audit.Baseline `json:"baselines,omitempty"`
	Events    map[common.Address]*Events        `json:"events,omitempty"` // nil: events were not looked for
	Waited    []Waited                          `json:"waited,omitempty"`
	Nodes     []hexutil.Bytes                   `json:"nodes,omitempty"` // of all reads' tries
	Codes     []hexutil.Bytes                   `json:"codes,omitempty"`
}

// Slot is one that the operator explains.
type Slot struct {
	Slot   common.Hash `json:"slot"`
	Reason string      `json:"reason"`
}

// Claim is one answer of the API, or its failure.
type Claim struct {
	FetchedAt  *time.Time        `json:"fetched_at,omitempty"`
	APIVersion string            `json:"api_version,omitempty"`
	RequestID  string            `json:"request_id,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Body       []byte            `json:"body,omitempty"` // base64
	SHA256     string            `json:"sha256,omitempty"`
	Error      *Fault            `json:"error,omitempty"`
}

// Read is what the chain said at one block. With a header, everything is proven from it; without, it is believed.
type Read struct {
	Policy   string        `json:"policy,omitempty"`
	Provider string        `json:"provider,omitempty"`
	Block    *Block        `json:"block,omitempty"`
	Head     *Block        `json:"head,omitempty"`
	Agreed   int           `json:"agreed,omitempty"`
	Failed   []Fault       `json:"failed,omitempty"`
	Header   hexutil.Bytes `json:"header,omitempty"` // RLP
	Sketch   bool          `json:"sketch,omitempty"` // answers were left out, and asked for in the next
	Believed *Believed     `json:"believed,omitempty"`
	Error    *Fault        `json:"error,omitempty"` // every provider failed
}

// Block is a block as a provider described it.
type Block struct {
	Number uint64      `json:"number"`
	Hash   common.Hash `json:"hash"`
	Time   time.Time   `json:"time"`
}

// Believed is what is not proven, and why.
type Believed struct {
	Why     string                  `json:"why,omitempty"` // empty: proof was not asked for
	Code    map[common.Address]bool `json:"code"`
	Answers []Answer                `json:"answers"`

	Control map[common.Address]Control `json:"control,omitempty"`
}

// Answer is what a contract said.
type Answer struct {
	Contract common.Address `json:"contract"`
	Getter   ethrpc.Getter  `json:"getter"`
	ID       common.Hash    `json:"id"`
	Allowed  bool           `json:"allowed"`
	Error    string         `json:"error,omitempty"`
}

// Events is what the events of a contract named: at first, and after each time that they were read.
type Events struct {
	Known   Named     `json:"known"`
	Updates []Update  `json:"updates,omitempty"`
	Changed []Changed `json:"changed,omitempty"`
}

// Named is an audit.Named.
type Named struct {
	Devices       []common.Hash    `json:"devices,omitempty"`
	Images        []common.Hash    `json:"images,omitempty"`
	AggregatedMRs []common.Hash    `json:"aggregated_mrs,omitempty"`
	Apps          []common.Address `json:"apps,omitempty"`
}

// Update is one reading of the events up to a block, or, without one, that they were all forgotten.
type Update struct {
	Block *common.Hash `json:"block,omitempty"`
	Known *Named       `json:"known,omitempty"` // nil: nothing new
	Error string       `json:"error,omitempty"`
}

// Changed is the last event of an id.
type Changed struct {
	List audit.List    `json:"list"`
	ID   common.Hash   `json:"id"`
	Last audit.Changed `json:"last"`
}

// Waited is how long the audit took something to be pending.
type Waited struct {
	Contract common.Address `json:"contract"`
	Getter   ethrpc.Getter  `json:"getter,omitempty"`
	ID       common.Hash    `json:"id"`
	Waited   time.Duration  `json:"waited"` // nanoseconds
}

// Encode writes the evidence as two lines: the JSON, and its SHA-256.
func (f *File) Encode() ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding the evidence of audit %s: %w", f.Report.AuditID, err)
	}
	return append(append(b, '\n'), seal(b)...), nil
}

func seal(body []byte) string { return fmt.Sprintf("{\"sha256\":\"%x\"}\n", sha256.Sum256(body)) }

// Decode reads what Encode wrote, also where gzip packed it. Every byte that differs is an error.
func Decode(r io.Reader) (*File, error) {
	b, err := unpack(r)
	if err != nil {
		return nil, err
	}
	body, last, ok := bytes.Cut(b, []byte("\n"))
	if !ok || string(last) != seal(body) {
		return nil, errors.New("reading the evidence: it is not what was written: its SHA-256 differs")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	f := &File{}
	switch err := d.Decode(f); {
	case err != nil:
		return nil, fmt.Errorf("reading the evidence: %s", quote.Plain(err.Error()))
	case f.Schema != Schema:
		return nil, fmt.Errorf("reading the evidence: its schema is %s, want %s", quote.Cut(f.Schema), Schema)
	case f.Report == nil || f.Report.Schema != audit.Schema:
		return nil, errors.New("reading the evidence: it has no report of a known schema")
	case len(f.Report.Chains) != len(f.Chains):
		return nil, fmt.Errorf("reading the evidence: its report has %d chains, and there is evidence of %d", len(f.Report.Chains), len(f.Chains))
	}
	return f, nil
}

func unpack(r io.Reader) ([]byte, error) {
	b, err := capped(r)
	if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpacking the evidence: %w", err)
	}
	return capped(z)
}

func capped(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the evidence: %w", err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("reading the evidence: it has more than %d bytes", maxFile)
	}
	return b, nil
}
