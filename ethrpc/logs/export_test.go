package logs

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// ReadLogs reads the answers to eth_getLogs of the blocks from to to, and to eth_getBlockByNumber of block to.
func ReadLogs(req Request, from, to uint64, logs, block json.RawMessage) ([]types.Log, common.Hash, error) {
	s := &blockRange{from: from, to: to}
	err := s.take(&req, []*transport.Call{{Result: logs}}, &transport.Call{Result: block})
	return s.logs, s.last, err
}

// Suggested is the number of blocks that a provider's words suggest for the range from from to to.
var Suggested = suggested

// CountRequests counts the ranges, and those of them that are refused, that it takes to read blocks of a provider
// that takes at most limit of them at once.
func CountRequests(blocks, limit, step uint64) (all, refused int) {
	s := newRangeSizer(step)
	for blocks > 0 {
		n := min(s.blocks, blocks)
		all++
		if n > limit {
			refused++
			s.refused(n, 0)
			continue
		}
		s.accepted(n)
		blocks -= n
	}
	return all, refused
}
