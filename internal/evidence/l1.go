package evidence

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

// underL1 verifies what L1 says about audited blocks.
func (c *Chain) underL1(ctx context.Context, r *Result, l *Look) error {
	o := &l.Observation
	switch {
	case l.L1 == nil && o.L1 == nil:
		return nil
	case l.L1 == nil:
		return errors.New("the evidence claims that L1 confirms audited blocks, but has no proof")
	case c.Intent.L1 == nil:
		return errors.New("L1 was read, but none is configured for the chain")
	}
	head, err := c.replay(r, l.L1.Documents, c.Intent.L1.ChainID)
	if err != nil {
		return err
	}
	calls, _, err := ethrpc.ProveCalls(c.Intent.L1.ChainID, head.Finalized.BlockHash, ethrpc.Witness{Header: l.L1.Header, Nodes: l.L1.Nodes, Codes: l.L1.Codes})
	if err != nil {
		return fmt.Errorf("proving L1's state at block %d: %w", head.Finalized.BlockNumber, err)
	}
	walks := l.L1.Walks
	walk := func(uint64, uint64, func([][]byte) error) (headers [][]byte, err error) {
		if len(walks) > 0 {
			headers, walks = walks[0].Headers, walks[1:]
		}
		if len(headers) == 0 {
			err = errors.New("the headers are not in the evidence")
		}
		return headers, err
	}
	holds, _, err := observe.ReadL1(ctx, calls, head, &c.Intent, c.Prior.UnderL1(o), walk)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(holds, o.L1) {
		return fmt.Errorf("what L1 says about audited blocks at its block %d differs from the evidence", head.Finalized.BlockNumber)
	}
	for _, now := range holds.Confirmations {
		what := string(now.Trust)
		if now.Contradicted != "" {
			what = "contradicted: " + sanitize.Plain(now.Contradicted)
		}
		r.Checked = append(r.Checked, fmt.Sprintf("%s: audited block %s is %s, by L1's block %d, for which the sync committees vouch from checkpoint %s on", sanitize.Plain(c.Intent.Chain),
			now.Hash, what, head.Finalized.BlockNumber, l.L1.Checkpoint))
	}
	r.Trusted = append(r.Trusted, fmt.Sprintf("%s: that the checkpoint is a finalized block of L1's beacon chain, that two thirds of each sync committee since then are honest, that %s is the chain's SystemConfig on L1, and that no game that L1 accepts is false", sanitize.Plain(c.Intent.Chain), c.Intent.L1.SystemConfig))
	return nil
}

// confirmed reports whether the evidence proves that L1 confirms a block. A confirmation by an earlier audit is not proven here.
func (c *Chain) confirmed(l1 *audit.L1Look, b *audit.Block) bool {
	return l1 != nil && slices.ContainsFunc(l1.Confirmations, func(now audit.Confirmation) bool {
		before := slices.ContainsFunc(c.Prior.L1, func(o audit.L1Block) bool { return o.Hash == now.Hash && o.Confirmed() })
		return now.Hash.Hex() == b.Hash && now.Trust != audit.TrustProviders && !before
	})
}
