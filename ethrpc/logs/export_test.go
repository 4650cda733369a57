package logs

import (
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// ReadLogs decodes the answers to eth_getLogs for the blocks from to to, and to eth_getBlockByNumber for block to.
func ReadLogs(req Request, from, to uint64, logs, block json.RawMessage) ([]types.Log, common.Hash, error) {
	s := &blockRange{from: from, to: to}
	err := s.take(&req, []*transport.Call{{Result: logs}}, &transport.Call{Result: block})
	return s.logs, s.last, err
}

// Suggested exports suggested.
var Suggested = suggested

// CountRequests counts the ranges, and the refused ones among them, that reading blocks takes if the provider's limit is limit.
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
