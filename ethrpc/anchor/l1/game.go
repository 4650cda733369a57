package l1

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
)

// claim is what a game claims about L2.
type claim struct {
	query
	root         common.Hash
	start, block uint64
	roots        []byte
}

func (c *claim) ask(game common.Address) {
	c.get(game, "rootClaim()", nil, &c.root)
	c.get(game, "l2SequenceNumber()", nil, &c.block)
	c.get(game, "startingBlockNumber()", nil, &c.start)
	c.get(game, "intermediateOutputRoots()", nil, &c.roots)
}

// points returns the blocks whose roots are claimed, in equal steps from the game's start to its own block.
func (c *claim) points(trust Trust, game common.Address) (out []Point, err error) {
	n := uint64(len(c.roots) / common.HashLength)
	switch {
	case c.err != nil:
		return nil, c.err
	case n == 0 || len(c.roots)%common.HashLength != 0:
		return nil, fmt.Errorf("its intermediateOutputRoots() has %d bytes, which are not whole roots", len(c.roots))
	case c.block <= c.start || (c.block-c.start)%n != 0:
		return nil, fmt.Errorf("its %d intermediateOutputRoots() do not divide blocks %d to %d into equal steps", n, c.start, c.block)
	}
	step := (c.block - c.start) / n
	for i := range n {
		root := common.Hash(c.roots[common.HashLength*i:])
		out = append(out, Point{trust, c.start + (i+1)*step, root, game, min(step, maxReach)})
	}
	if last := out[n-1].Root; last != c.root {
		return nil, fmt.Errorf("its intermediateOutputRoots() end with %s, not with its claim %s", last, c.root)
	}
	return out, nil
}

// game is a Game with what decides whether it counts.
type game struct {
	Game
	claim
	claimed []Point
	parent  common.Address // the registry for the first game

	registered, blacklisted, retired, respected, proper bool // according to the registry
	types                                               [2]uint32
	created                                             uint64
	respectedAtCreation                                 bool
	status, proofs                                      uint8       // status 0: in progress, 1: the challenger won, 2: the defender won
	countered                                           common.Hash // index of a countered intermediate root, from 1; 0 if none
}

// judge fills in games, from an index down, and decides which ones count.
func (r *reader) judge(ctx context.Context, from uint64, games []game) error {
	var queries []*query
	for i := range games {
		g, q := &games[i], &query{}
		g.Index = from - uint64(i)
		q.get(r.factory, "gameAtIndex(uint256)", binary.BigEndian.AppendUint64(nil, g.Index), &g.types[0], &g.created, &g.Address)
		queries = append(queries, q)
	}
	if err := run(ctx, r.caller, queries...); err != nil {
		return err
	}
	var asked []*query
	for i := range games {
		switch g := &games[i]; {
		case queries[i].err != nil:
			g.Err = queries[i].err
		case g.types[0] != r.respected:
			g.Err = fmt.Errorf("it is of type %d, but the respected type is %d", g.types[0], r.respected)
		default:
			g.ask(r.registry)
			asked = append(asked, &g.query)
		}
	}
	if err := run(ctx, r.caller, asked...); err != nil {
		return err
	}
	for i := range games {
		g := &games[i]
		if g.Err == nil {
			g.Err = g.fault(r.respected)
		}
		if g.Err == nil {
			g.claimed, g.Err = g.points(Proposed, g.Address)
		}
	}
	return nil
}

func (g *game) ask(registry common.Address) {
	it := g.Address[:]
	g.get(registry, "isGameRegistered(address)", it, &g.registered)
	g.get(registry, "isGameBlacklisted(address)", it, &g.blacklisted)
	g.get(registry, "isGameRetired(address)", it, &g.retired)
	g.get(registry, "isGameRespected(address)", it, &g.respected)
	g.get(registry, "isGameProper(address)", it, &g.proper)
	g.get(g.Address, "gameType()", nil, &g.types[1])
	g.get(g.Address, "wasRespectedGameTypeWhenCreated()", nil, &g.respectedAtCreation)
	g.get(g.Address, "status()", nil, &g.status)
	g.get(g.Address, "proofCount()", nil, &g.proofs)
	g.get(g.Address, "counteredByIntermediateRootIndexPlusOne()", nil, &g.countered)
	g.get(g.Address, "parentAddress()", nil, &g.parent)
	g.claim.ask(g.Address)
}

// fault returns why the game does not count, or nil.
func (g *game) fault(respected uint32) error {
	switch {
	case g.err != nil:
		return g.err
	case !g.registered:
		return errors.New("it is not registered")
	case g.blacklisted:
		return errors.New("it is blacklisted")
	case g.retired:
		return errors.New("it is retired")
	case g.types[1] != respected:
		return fmt.Errorf("its gameType() is %d, but the respected type is %d", g.types[1], respected)
	case !g.respected || !g.respectedAtCreation:
		return errors.New("its type was not respected when it was created")
	case !g.proper:
		return errors.New("the registry does not call it proper")
	case g.status != 0 && g.status != 2:
		return fmt.Errorf("its status is %d, neither in progress (0) nor won by the defender (2)", g.status)
	case g.proofs == 0:
		return errors.New("it has no proof")
	case g.countered != common.Hash{}:
		return errors.New("one of its intermediate roots was countered")
	}
	return nil
}
