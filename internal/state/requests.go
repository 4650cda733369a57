package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// The kinds of a Request.
const (
	Accept = "accept" // make the control that the operator reviewed the baseline
	Forget = "forget" // stop auditing the contract and close its findings
)

// Request is a request of the operator to the process that has the state open.
type Request struct {
	Kind     string         `json:"kind"`
	Chain    string         `json:"chain"`
	Contract common.Address `json:"contract"`
	Control  *audit.Control `json:"control,omitempty"` // to be accepted
	At       time.Time      `json:"at"`
	By       string         `json:"by,omitempty"`
}

func (r Request) target() Target { return Target{Chain: r.Chain, Contract: r.Contract} }

// forgotten is a contract that the operator retired.
type forgotten struct {
	Contract common.Address `json:"contract"`
	At       time.Time      `json:"at"`
	By       string         `json:"by"`
}

// Apply carries out a request. A control can be accepted only if it is the one that was last seen. A configured contract cannot be
// forgotten.
func (s *State) Apply(r Request, configured map[Target]bool) error {
	switch r.Kind {
	case Accept:
		if err := s.accept(r); err != nil {
			return fmt.Errorf("accepting the baseline of %s: %w", r.target(), err)
		}
		return nil
	case Forget:
		if configured[r.target()] {
			return fmt.Errorf("forgetting %s: it is configured; remove it from the configuration first", r.target())
		}
		return s.forget(r)
	default:
		return fmt.Errorf("unknown kind of request: %s", sanitize.Quote(r.Kind))
	}
}

func (s *State) accept(r Request) error {
	if r.Control != nil {
		r.Control.Adopt(r.Contract.Hex(), r.Control.Implementation)
	}
	all := s.Controlled()
	i := slices.IndexFunc(all, func(c Controlled) bool { return c.Target == r.target() && c.Seen != nil })
	switch {
	case i < 0:
		return errors.New("no audit has seen it")
	case r.Control == nil || !reflect.DeepEqual(all[i].Seen.Control, *r.Control):
		return fmt.Errorf("the control in the last report, of block %d, differs from the one in the request", all[i].Seen.Block.Number)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.chain(r.Chain)
	c.Prior.Contracts = slices.Clone(c.Prior.Contracts)
	k, is := c.contract(r.Contract, r.At), *r.Control
	if was := k.Baseline; was != nil {
		is = is.Or(was.Control) // keep fields that could not be read
		if !is.Complete {
			is.Owner = cmp.Or(is.Owner, was.Control.Owner) // without a proof, it may not have been read
		}
		if was.Control.Complete && !is.Complete && is.Within(&was.Control.Code) {
			// Without a proof, the report does not have all code that runs, so keep the known code.
			is.Code, is.Implementation = was.Control.Code, cmp.Or(is.Implementation, was.Control.Implementation)
		}
	}
	k.Baseline = &audit.Baseline{Control: is, Since: r.At.UTC(), Accepted: true}
	s.due = true
	return nil
}

func (s *State) forget(r Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	contract := r.Contract.Hex()
	c := s.chainOf(r.Chain)
	if c == nil || c.Prior.Contract(r.Contract) == nil && !slices.ContainsFunc(c.Prior.Open, func(o audit.OpenFinding) bool { return o.Contract == contract }) {
		return fmt.Errorf("forgetting %s: no audit knows it", r.target())
	}
	p := &c.Prior
	p.Contracts = slices.DeleteFunc(slices.Clone(p.Contracts), func(k audit.Known) bool { return k.Address == r.Contract })
	p.Pending = slices.DeleteFunc(slices.Clone(p.Pending), func(o audit.PendingChange) bool { return o.Contract == r.Contract })
	by := sanitize.Plain(cmp.Or(r.By, "the operator"))
	var ended []audit.Change
	for _, o := range p.Open {
		if o.Contract == contract {
			o.Finding.Message = fmt.Sprintf("%s; the operator forgot the contract (%s, %s)", o.Finding.Message, by, r.At.UTC().Format(time.RFC3339))
			ended = append(ended, audit.Change{Type: audit.Resolved, Chain: r.Chain, Contract: contract, Finding: o.Finding, Block: o.Block, At: r.At.UTC()})
		}
	}
	ofIt := func(o audit.OpenFinding) bool { return o.Contract == contract }
	p.Open, p.L1 = slices.DeleteFunc(slices.Clone(p.Open), ofIt), slices.Clone(p.L1)
	for i := range p.L1 {
		p.L1[i].Ended = slices.DeleteFunc(slices.Clone(p.L1[i].Ended), ofIt)
	}
	c.Forgotten = append(slices.Clip(c.Forgotten), forgotten{r.Contract, r.At.UTC(), by})
	c.Last, c.Compared = c.Last.without(contract), c.Compared.without(contract)
	s.due = true
	s.change(s.outbox.AuditID, r.At.UTC(), ended)
	return nil
}

// without returns c without a contract.
func (c *Chain) without(contract string) *Chain {
	if c == nil {
		return nil
	}
	out := *c
	out.Targets = slices.DeleteFunc(slices.Clone(c.Targets), func(t audit.Target) bool { return t.Contract == contract })
	return &out
}

// Controlled is what is known about who controls a contract.
type Controlled struct {
	Target   Target
	ChainID  uint64
	Baseline *audit.Baseline // nil if none is recorded
	Seen     *Seen           // nil if no remembered audit read it
}

// Seen is the control that the last audit read.
type Seen struct {
	Control audit.Control `json:"control"`
	Block   audit.Block   `json:"block"`
	AuditID string        `json:"audit_id"`
}

// Differs lists the fields of the control that differ from the baseline.
func (c *Controlled) Differs() []string {
	if c.Baseline == nil || c.Seen == nil {
		return []string{}
	}
	return c.Baseline.Control.Differs(c.Seen.Control)
}

// Controlled lists every contract with a baseline or with a control that an audit read.
func (s *State) Controlled() []Controlled {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Controlled
	for _, c := range s.chains {
		at := func(a common.Address) *Controlled {
			i := slices.IndexFunc(all, func(k Controlled) bool { return k.Target == Target{Chain: c.Name, Contract: a} })
			if i < 0 {
				i, all = len(all), append(all, Controlled{Target: Target{Chain: c.Name, Contract: a}, ChainID: c.ID})
			}
			return &all[i]
		}
		for _, k := range c.Prior.Contracts {
			if k.Baseline != nil {
				at(k.Address).Baseline = k.Baseline
			}
		}
		for _, r := range []*Chain{c.Last, c.Compared} {
			for _, t := range targetsOf(r) {
				contract, err := sanitize.ParseAddress(t.Contract)
				if err != nil || t.Control == nil || r.Block == nil {
					continue
				}
				if k := at(contract); k.Seen == nil {
					k.Seen = &Seen{*t.Control, *r.Block, r.AuditID}
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Controlled) int {
		return cmp.Or(cmp.Compare(a.ChainID, b.ChainID), a.Target.Contract.Cmp(b.Target.Contract))
	})
	return all
}

// requests is the content of the file next to the state.
type requests struct {
	Schema   string    `json:"schema"`
	Requests []Request `json:"requests"`
}

const (
	requestSchema = "kms-auditor/requests/v1"
	maxRequests   = 1 << 20 // bytes of the file
)

// RequestPath returns the path of the file with waiting requests.
func RequestPath(state string) string { return state + ".requests" }

// TakenPath returns the path of the file with the requests that are being carried out.
func TakenPath(state string) string { return RequestPath(state) + ".taken" }

// Enqueue adds waiting requests. A request replaces an earlier one about the same contract.
func Enqueue(state string, more ...Request) error {
	path := RequestPath(state)
	all, err := readRequests(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*unusable)) {
		return err
	}
	for _, r := range more {
		all = append(slices.DeleteFunc(all, func(old Request) bool { return old.target() == r.target() }), r)
	}
	b, err := json.MarshalIndent(requests{requestSchema, all}, "", "  ")
	if err == nil && len(b) > maxRequests {
		err = fmt.Errorf("they have %d bytes, want at most %d", len(b), maxRequests)
	}
	if err == nil {
		err = replace(path, path+"."+strconv.Itoa(os.Getpid())+".tmp", b)
	}
	if err != nil {
		return fmt.Errorf("writing requests to %s: %w", sanitize.Plain(path), err)
	}
	return nil
}

// Drain carries out the waiting requests, calls each for every one, and removes them. It also removes a file that cannot be parsed.
func (s *State) Drain(state string, configured map[Target]bool, each func(Request, error)) error {
	// Rename the file, so that new requests go to another one. Requests that a killed process left come first; repeating them is
	// harmless.
	taken := TakenPath(state)
	if _, err := os.Lstat(taken); errors.Is(err, fs.ErrNotExist) {
		err := os.Rename(RequestPath(state), taken)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("taking requests: %w", err)
		}
	}
	all, err := readRequests(taken)
	if err != nil && !errors.As(err, new(*unusable)) {
		return err
	}
	for _, r := range all {
		each(r, s.Apply(r, configured))
	}
	return errors.Join(err, s.Save(), os.Remove(taken))
}

func readRequests(path string) (_ []Request, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading requests from %s: %w", sanitize.Plain(path), err)
		}
	}()
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &unusable{errNoFile}
	}
	if info.Size() > maxRequests {
		return nil, &unusable{fmt.Errorf("it has more than %d bytes", maxRequests)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all requests
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&all); err != nil {
		return nil, &unusable{errors.New(sanitize.Plain(err.Error()))}
	}
	if _, err := dec.Token(); all.Schema != requestSchema || err != io.EOF {
		return nil, &unusable{fmt.Errorf("its schema is %s, want one object of %s", sanitize.Quote(all.Schema), requestSchema)}
	}
	return all.Requests, nil
}
