package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/history"
	"github.com/kms-auditor/kms-auditor/internal/quote"
)

// Request asks that a control, which the operator looked at, be the baseline of a contract.
type Request struct {
	ChainID  uint64         `json:"chain_id"`
	Contract common.Address `json:"contract"`
	Control  audit.Control  `json:"control"`
	At       time.Time      `json:"at"`
}

// Target is what the request is about.
func (r Request) Target() history.Target {
	return history.Target{ChainID: r.ChainID, Contract: r.Contract}
}

// requests is the content of the file beside the state.
type requests struct {
	Schema   string    `json:"schema"`
	Requests []Request `json:"requests"`
}

const (
	requestSchema = "kms-auditor/accepted/v1"
	maxRequests   = 1 << 20 // bytes of the file
)

// RequestPath is the file that requests are left in for the process that holds the state.
func RequestPath(state string) string { return state + ".accepted" }

// TakenPath is that file while its requests are applied.
func TakenPath(state string) string { return RequestPath(state) + ".taken" }

// Apply does what the request asks for, unless the last report saw something else.
func (m *Memory) Apply(r Request) error {
	all, err := m.Controlled()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(c Controlled) bool { return c.Target == r.Target() && c.Seen != nil })
	if i < 0 {
		return fmt.Errorf("accepting the control over %s: no audit has seen it", r.Target())
	}
	if seen := all[i].Seen; seen.Control != r.Control {
		return fmt.Errorf("accepting the control over %s: the last report, of block %d, sees another one than the request", r.Target(), seen.Block.Number)
	}
	return m.Accept(r.ChainID, r.Contract, r.Control, r.At)
}

// Leave adds requests to those that wait beside the state; a later one about the same contract counts.
func Leave(state string, more ...Request) error {
	path := RequestPath(state)
	all, err := readRequests(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*malformed)) {
		return err
	}
	for _, r := range more {
		all = append(slices.DeleteFunc(all, func(old Request) bool { return old.Target() == r.Target() }), r)
	}
	b, err := json.MarshalIndent(requests{requestSchema, all}, "", "  ")
	if err == nil && len(b) > maxRequests {
		err = fmt.Errorf("they have %d bytes, want at most %d", len(b), maxRequests)
	}
	if err == nil {
		err = replace(path, b)
	}
	if err != nil {
		return fmt.Errorf("leaving requests as %s: %w", quote.Plain(path), err)
	}
	return nil
}

// replace writes a private file, whole or not at all.
func replace(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".") // its mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Take applies the requests that wait beside the state, tells of each, and removes them. A file that cannot be
// understood is removed too.
func (m *Memory) Take(state string, tell func(Request, error)) error {
	// Out of the way of new ones. What a process left there when it was killed comes first; applying it again does no harm.
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
	if err != nil && !errors.As(err, new(*malformed)) {
		return err
	}
	for _, r := range all {
		tell(r, m.Apply(r))
	}
	return errors.Join(err, os.Remove(taken))
}

// malformed is why the content of a file is no list of requests.
type malformed struct{ error }

func readRequests(path string) ([]Request, error) {
	wrong := func(err error) error { return fmt.Errorf("reading requests from %s: %w", quote.Plain(path), err) }
	if info, err := os.Lstat(path); err != nil {
		return nil, wrong(err)
	} else if !info.Mode().IsRegular() {
		return nil, wrong(&malformed{errors.New("it is no regular file")})
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, wrong(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRequests+1))
	if err != nil {
		return nil, wrong(err)
	}
	all, err := decodeRequests(b)
	if err != nil {
		return nil, wrong(&malformed{err})
	}
	return all, nil
}

func decodeRequests(b []byte) ([]Request, error) {
	if len(b) > maxRequests {
		return nil, fmt.Errorf("it has more than %d bytes", maxRequests)
	}
	var all requests
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&all); err != nil {
		return nil, errors.New(quote.Plain(err.Error()))
	}
	if _, err := dec.Token(); all.Schema != requestSchema || err != io.EOF {
		return nil, fmt.Errorf("its schema is %s, want one object of %s", quote.Cut(all.Schema), requestSchema)
	}
	return all.Requests, nil
}
