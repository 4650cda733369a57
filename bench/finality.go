package main

import (
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/rpc"
)

// finalize tells the node, as a beacon node would, that one more toggle is final, and the API to claim what it made.
func (w *world) finalize(ctx context.Context) error {
	if w.final == toggles {
		return fmt.Errorf("finalizing: all %d changes are final", toggles)
	}
	w.final++
	claim := w.claims.prepare(w.claim(0, false))
	head, final := w.settled[len(w.settled)-1], w.settled[w.final]
	c, err := rpc.DialOptions(ctx, w.authURL, rpc.WithHTTPAuth(node.NewJWTAuth(jwtSecret)))
	if err != nil {
		return fmt.Errorf("finalizing: %w", err)
	}
	defer c.Close()
	var said engine.ForkChoiceResponse
	err = c.CallContext(ctx, &said, "engine_forkchoiceUpdatedV3", engine.ForkchoiceStateV1{HeadBlockHash: head, SafeBlockHash: final, FinalizedBlockHash: final}, nil)
	if err == nil && said.PayloadStatus.Status != engine.VALID {
		err = fmt.Errorf("the node says %s", said.PayloadStatus.Status)
	}
	if err != nil {
		return fmt.Errorf("finalizing block %s: %w", final, err)
	}
	claim()
	return nil
}

// jwtSecret is shared with the node, which nobody else reaches.
var jwtSecret [32]byte
