// Package evidence stores what an audit's verdict is based on, and verifies it offline.
//
// A File is the report with all input of the judgement: the configuration, what earlier audits left open, and the looks at each
// chain with the raw bytes that prove them. Decode parses one strictly and within bounds. Verify checks the proofs again,
// starting from block hashes, runs audit.Judge, and compares the outcome with the report. See docs/evidence.md.
package evidence

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor"
	"github.com/kms-auditor/kms-auditor/internal/exactjson"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Schema names the shape of File's JSON; docs/evidence.schema.json documents it.
const Schema = "kms-auditor/evidence/v2"

// File is the evidence of one audit. Bytes are base64.
type File struct {
	Schema string        `json:"schema"`
	Rules  int           `json:"rules"` // the audit.Rules that made the report
	Report *audit.Report `json:"report"`
	Chains []Chain       `json:"chains"` // in the order of the report
}

// Chain is what the judgement on one chain is based on.
type Chain struct {
	Intent      audit.Intent `json:"intent"`
	Prior       audit.Prior  `json:"prior"`
	First       Look         `json:"first"`
	Second      *Look        `json:"second,omitempty"`
	Head        *Look        `json:"head,omitempty"`
	Interrupted string       `json:"interrupted,omitempty"` // why there is no second look
	Nodes       [][]byte     `json:"nodes,omitempty"`       // trie nodes of state and storage, for all looks
	Codes       [][]byte     `json:"codes,omitempty"`

	checkpoints []common.Hash // given to Verify
	until       time.Time     // when the audit ended
	proven      []common.Hash // checkpoints and proven roots of the looks so far
}

// Look is one audit.Observation without what can be derived: the claim, the list of KMS, and proven readings.
type Look struct {
	Observation audit.Observation `json:"observation"`
	Claim       *Answer           `json:"claim,omitempty"`
	Listing     []Answer          `json:"listing,omitempty"` // one per page
	Header      []byte            `json:"header,omitempty"`  // RLP; of the pinned block, if something is proven
	Proven      []Proven          `json:"proven,omitempty"`
	Anchor      *Anchor           `json:"anchor,omitempty"` // nil without an anchor
	L1          *L1               `json:"l1,omitempty"`     // nil if L1 was not read
}

// Anchor proves who vouches for a look's block.
type Anchor struct {
	anchor.Documents
	Headers [][]byte `json:"headers,omitempty"` // RLP, in the order of anchor.Head.WalkTo
}

// L1 proves what L1 says about audited blocks.
type L1 struct {
	anchor.Documents
	Header []byte         `json:"header"` // RLP; of the block that the documents prove to be finalized
	Nodes  [][]byte       `json:"nodes"`
	Codes  [][]byte       `json:"codes"`
	Walks  []observe.Walk `json:"walks,omitempty"`
}

// Answer is one response of the API.
type Answer struct {
	audit.Claim
	Headers map[string]string `json:"headers,omitempty"`
	Body    []byte            `json:"body"` // as received
}

// Proven is the query of a proven reading. The answers follow from header, nodes and codes.
type Proven struct {
	ethrpc.Query
	Provider string             `json:"provider,omitempty"`
	Events   *audit.EventScan   `json:"events,omitempty"`
	Changes  []audit.ListChange `json:"changes,omitempty"`
}

// New returns the evidence of a report. records are those of its chains, in the same order.
func New(report *audit.Report, records []observe.Record) (*File, error) {
	f := &File{Schema: Schema, Rules: audit.Rules, Report: report, Chains: []Chain{}}
	for i := range records {
		c, err := chainOf(&records[i])
		if err != nil {
			return nil, fmt.Errorf("collecting evidence of chain %s: %w", records[i].Intent.Chain, err)
		}
		f.Chains = append(f.Chains, *c)
	}
	return f, nil
}

func chainOf(r *observe.Record) (*Chain, error) {
	c := &Chain{Intent: r.Intent, Prior: r.Prior, Interrupted: r.Looks.Interrupted}
	seen := map[common.Hash]bool{} // nodes and codes that were already added
	first, err := c.look(&r.Looks.First, &r.Raw.First, seen)
	if err != nil {
		return nil, err
	}
	c.First = *first
	if c.Second, err = c.look(r.Looks.Second, &r.Raw.Second, seen); err != nil {
		return nil, err
	}
	c.Head, err = c.look(r.Looks.Head, &r.Raw.Head, seen)
	return c, err
}

// look converts a look, and adds its nodes and codes that are not seen yet.
func (c *Chain) look(o *audit.Observation, raw *observe.RawLook, seen map[common.Hash]bool) (*Look, error) {
	if o == nil {
		return nil, nil
	}
	l := &Look{Observation: *o}
	l.Observation.Readings = nil
	var err error
	if o.Claim != nil {
		if l.Claim, err = answerOf(raw.Claim); err != nil {
			return nil, err
		}
	}
	for i := range raw.Listing {
		page, err := answerOf(&raw.Listing[i])
		if err != nil {
			return nil, err
		}
		l.Listing = append(l.Listing, *page)
	}
	if a := raw.Anchor; a != nil {
		l.Anchor = &Anchor{a.Documents, a.Headers}
	}
	if raw := raw.L1; raw != nil {
		l.L1 = &L1{raw.Documents, raw.Witness.Header, raw.Witness.Nodes, raw.Witness.Codes, raw.Walks}
	}
	for _, r := range o.Readings {
		if r.Assurance != audit.Proven {
			l.Observation.Readings = append(l.Observation.Readings, r)
			continue
		}
		i := slices.IndexFunc(raw.Queries, func(q ethrpc.Query) bool { return q.Contract == r.Contract })
		if i < 0 || raw.Witness == nil {
			return nil, fmt.Errorf("the proof of the reading of %s was not recorded", r.Contract)
		}
		l.Proven = append(l.Proven, Proven{raw.Queries[i], r.Provider, r.Events, r.Changes})
	}
	if len(l.Proven) > 0 {
		l.Header = raw.Witness.Header
		c.Nodes = addNew(c.Nodes, raw.Witness.Nodes, seen)
		c.Codes = addNew(c.Codes, raw.Witness.Codes, seen)
	}
	return l, nil
}

func addNew(to, all [][]byte, seen map[common.Hash]bool) [][]byte {
	for _, b := range all {
		if hash := crypto.Keccak256Hash(b); !seen[hash] {
			seen[hash] = true
			to = append(to, b)
		}
	}
	return to
}

func answerOf(src *kmsapi.Source) (*Answer, error) {
	switch {
	case src == nil:
		return nil, errors.New("the API's response was not recorded")
	case src.HoldsKey:
		return nil, errors.New("the API's response contains the API key, so it cannot be stored")
	}
	return &Answer{observe.SourceOf(src), src.Header, []byte(src.Body)}, nil
}

// Encode returns two lines: the JSON and its SHA-256. It fails if Decode would refuse the size.
func (f *File) Encode() ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding the evidence of audit %s: %w", f.Report.AuditID, err)
	}
	sum := seal(b)
	if len(b)+1+len(sum) > maxFile {
		return nil, fmt.Errorf("encoding the evidence of audit %s: it is larger than %d MiB", f.Report.AuditID, maxFile>>20)
	}
	return append(append(b, '\n'), sum...), nil
}

func seal(body []byte) string { return fmt.Sprintf("%s%x\"}\n", sealed, sha256.Sum256(body)) }

const (
	sealed = `{"sha256":"`

	// maxFile is the largest unpacked file. A contract with 200,000 registered apps takes about 40 MiB.
	maxFile = 128 << 20

	firstRules = 2 // of this format
	schemaV1   = `{"schema":"kms-auditor/evidence/v1"`
)

// ErrRefuted marks evidence that does not hold: it was changed, or it gives another report than the one in it.
var ErrRefuted = errors.New("the evidence does not hold")

// ErrUnsupported marks evidence of a fork that this release does not know: it may hold or not.
var ErrUnsupported = errors.New("this release cannot check the evidence")

// Decode parses the output of Encode, optionally gzipped. Evidence that was changed is ErrRefuted. Keys match exactly; unknown and
// duplicate keys are errors.
func Decode(r io.Reader) (*File, error) {
	b, err := unpack(r)
	if err != nil {
		return nil, err
	}
	body, last, _ := bytes.Cut(b, []byte("\n"))
	switch {
	case !bytes.HasPrefix(last, []byte(sealed)):
		return nil, errors.New("reading the evidence: it is not evidence: want two lines, a JSON document and its SHA-256")
	case string(last) != seal(body):
		return nil, fmt.Errorf("%w: it was changed: its SHA-256 differs", ErrRefuted)
	case bytes.HasPrefix(body, []byte(schemaV1)):
		return nil, errors.New("reading the evidence: only the release that wrote it can read its format kms-auditor/evidence/v1; the report names it as version")
	}
	f := &File{}
	switch err := exactjson.Own(body, f); {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrRefuted, err)
	case f.Schema != Schema || f.Rules > audit.Rules:
		return nil, fmt.Errorf("reading the evidence: it is %s by rules %d, but this release reads only %s by rules up to %d; use a newer release",
			sanitize.Quote(f.Schema), f.Rules, Schema, audit.Rules)
	case f.Report == nil || f.Report.Schema != audit.Schema || f.Rules < firstRules:
		return nil, fmt.Errorf("%w: it has no report of a known schema and rules", ErrRefuted)
	}
	f.adopt()
	return f, nil
}

// adopt converts code fields that rules 2 and 3 wrote.
func (f *File) adopt() {
	for i := range f.Report.Chains {
		for _, t := range f.Report.Chains[i].Targets {
			if t.Control != nil {
				t.Control.Adopt(t.Contract, t.Control.Implementation)
			}
		}
	}
	for i := range f.Chains {
		for _, k := range f.Chains[i].Prior.Contracts {
			if k.Baseline != nil {
				k.Baseline.Control.Adopt(k.Address.Hex(), k.Baseline.Control.Implementation)
			}
		}
		for _, l := range []*Look{&f.Chains[i].First, f.Chains[i].Second, f.Chains[i].Head} {
			if l == nil {
				continue
			}
			for k := range l.Observation.Readings {
				r := &l.Observation.Readings[k]
				c := &r.Control
				c.Code.CodeHash, c.Code.ImplementationCodeHash = c.CodeHash.Value, c.ImplementationCodeHash.Value
				c.Code.Adopt(r.Contract.Hex(), c.Implementation.Value)
				c.CodeErr = cmp.Or(c.CodeErr, c.ImplementationCodeHash.Err)
			}
		}
	}
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
		return nil, fmt.Errorf("reading the evidence: it is larger than %d MiB", maxFile>>20)
	}
	return b, nil
}
