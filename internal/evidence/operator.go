package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Policy is an audit.Policy: a list that is null is not checked.
type Policy struct {
	Devices        []common.Hash   `json:"devices"`
	OSImages       []common.Hash   `json:"os_images"`
	Owner          *common.Address `json:"owner,omitempty"`
	Implementation *common.Address `json:"implementation,omitempty"`
	CodeHash       *common.Hash    `json:"code_hash,omitempty"`
}

// Accept is an audit.Accept.
type Accept struct {
	Chain    string         `json:"chain"`
	Contract common.Address `json:"contract"`
	List     audit.List     `json:"list,omitempty"`
	ID       string         `json:"id,omitempty"`
	Kind     audit.Kind     `json:"kind"`
	Reason   string         `json:"reason"`
	Expires  time.Time      `json:"expires"`
}

// Listing is one reading of the API's list of KMS: its pages, or why there are none.
type Listing struct {
	Pages []Claim `json:"pages,omitempty"`
	Error *Fault  `json:"error,omitempty"`
}

// Control is an ethrpc.Control that is believed.
type Control struct {
	Owner                  *common.Address `json:"owner,omitempty"`
	PendingOwner           *common.Address `json:"pending_owner,omitempty"`
	Implementation         *common.Address `json:"implementation,omitempty"`
	CodeHash               common.Hash     `json:"code_hash"`
	ImplementationCodeHash common.Hash     `json:"implementation_code_hash"`
	GatewayAppID           *string         `json:"gateway_app_id,omitempty"`
	K256Pubkey             hexutil.Bytes   `json:"k256_pubkey,omitempty"`
	CAPubkey               hexutil.Bytes   `json:"ca_pubkey,omitempty"`
	Error                  string          `json:"error,omitempty"`
}

func controlsOf(s *ethrpc.State) map[common.Address]Control {
	out := map[common.Address]Control{}
	for addr, c := range s.Control {
		kept := Control{c.Owner, c.PendingOwner, c.Implementation, c.CodeHash, c.ImplementationCodeHash, c.GatewayAppID, c.K256Pubkey, c.CAPubkey, ""}
		if c.Err != nil {
			kept.Error = c.Err.Error()
		}
		out[addr] = kept
	}
	return out
}

func (c Control) control() ethrpc.Control {
	out := ethrpc.Control{
		Owner: c.Owner, PendingOwner: c.PendingOwner, Implementation: c.Implementation, CodeHash: c.CodeHash,
		ImplementationCodeHash: c.ImplementationCodeHash, GatewayAppID: c.GatewayAppID, K256Pubkey: c.K256Pubkey, CAPubkey: c.CAPubkey,
	}
	if c.Error != "" {
		out.Err = errors.New(c.Error)
	}
	return out
}

// operator notes what the operator told the audit.
func (c *Chain) operator(o audit.ChainOptions) {
	for addr, p := range o.Wanted {
		if c.Wanted == nil {
			c.Wanted = map[common.Address]Policy{}
		}
		c.Wanted[addr] = Policy(p)
	}
	for _, a := range o.Accept {
		c.Accept = append(c.Accept, Accept(a))
	}
	c.Watched, c.Listed = o.Baselines != nil, o.KMS != nil
}

// options are what operator noted.
func (c *Chain) options(o *audit.ChainOptions, from *offline) {
	o.Wanted = map[common.Address]audit.Policy{}
	for addr, p := range c.Wanted {
		o.Wanted[addr] = audit.Policy(p)
	}
	for _, a := range c.Accept {
		o.Accept = append(o.Accept, audit.Accept(a))
	}
	if c.Watched {
		o.Baselines = remembered(c.Baselines)
	}
	if c.Listed {
		o.KMS = from
	}
}

// baselines notes what an audit is told of baselines.
type baselines struct {
	to    *Recorder
	chain string
	audit.Baselines
}

func (s baselines) Baseline(contract common.Address) (audit.Baseline, bool) {
	b, known := s.Baselines.Baseline(contract)
	if known {
		s.to.note(s.chain, func(c *record) {
			if _, again := c.Baselines[contract]; again {
				return
			}
			if c.Baselines == nil {
				c.Baselines = map[common.Address]audit.Baseline{}
			}
			c.Baselines[contract] = b
		})
	}
	return b, known
}

// remembered is an audit.Baselines of the evidence. What an audit sees for the first time it knows already.
type remembered map[common.Address]audit.Baseline

func (r remembered) Baseline(contract common.Address) (audit.Baseline, bool) {
	b, known := r[contract]
	return b, known
}

func (remembered) Begin(common.Address, audit.Baseline) error { return nil }

// lister notes the list of KMS.
type lister struct {
	to    *Recorder
	chain string
	inner audit.Lister
}

func (s lister) List(ctx context.Context, f kmsapi.Filter) (*kmsapi.List, error) {
	l, err := s.inner.List(ctx, f)
	s.to.note(s.chain, func(c *record) {
		if err != nil {
			f := faultOf("", err)
			c.Lists = append(c.Lists, Listing{Error: &f})
			return
		}
		var pages []Claim
		for _, src := range l.Pages {
			pages = append(pages, claimOf(src))
			if src.HoldsKey {
				c.err = errHoldsKey
			}
		}
		c.Lists = append(c.Lists, Listing{Pages: pages})
	})
	return l, err
}

// List plays a list of KMS back.
func (o *offline) List(context.Context, kmsapi.Filter) (*kmsapi.List, error) {
	l, err := o.listing()
	if err != nil && o.listErr == nil {
		if _, theirs := errors.AsType[*replayed](err); !theirs {
			o.listErr = err
		}
	}
	return l, err
}

func (o *offline) listing() (*kmsapi.List, error) {
	if o.lists == len(o.c.Lists) {
		return nil, fmt.Errorf("asking for the list of KMS: %w", errOver)
	}
	l := o.c.Lists[o.lists]
	o.lists++
	if l.Error != nil {
		return nil, l.Error.err()
	}
	out := &kmsapi.List{}
	var bodies [][]byte
	for _, page := range l.Pages {
		src, err := page.source()
		if err != nil {
			return nil, err
		}
		out.Pages, bodies = append(out.Pages, src), append(bodies, page.Body)
	}
	var err error
	if out.KMS, err = kmsapi.DecodeList(bodies...); err != nil {
		return nil, fmt.Errorf("decoding the list of KMS: %w", err)
	}
	return out, nil
}
