package testchain

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// The names of the contracts of a Rollup.
const (
	RollupConfig   = "RollupConfig"
	RollupPortal   = "RollupPortal"
	RollupRegistry = "RollupRegistry"
	RollupFactory  = "RollupFactory"
	RollupGame     = "RollupGame"

	rollupAltered    = "RollupAltered"
	rollupUpgradable = "RollupUpgradable"
)

// GameType is the respected game type of a new Rollup.
const GameType uint32 = 8

// Rollup is an OP-stack chain's contracts on L1: four behind proxies, and games that are clones of an implementation.
type Rollup struct {
	At             map[string]common.Address // of the four contracts, by name
	Implementation common.Address            // of the games
	owner          *KMS
	implementation map[string]common.Address
}

// DeployRollup deploys the contracts for an L2 chain. The anchor root is zero.
func (c *Chain) DeployRollup(ctx context.Context, l2ChainID uint64) (*Rollup, error) {
	return DeployRollup(ctx, c.Client(), l2ChainID, DeployOptions{Mine: c.mine})
}

// DeployRollup deploys the contracts for an L2 chain by transactions. It ignores the option Implementation.
func DeployRollup(ctx context.Context, b Backend, l2ChainID uint64, o DeployOptions) (*Rollup, error) {
	r := &Rollup{At: map[string]common.Address{}, implementation: map[string]common.Address{}, owner: newKMS(b, &o)}
	for _, name := range []string{RollupConfig, RollupPortal, RollupRegistry, RollupFactory} {
		impl, err := r.owner.Create(ctx, name)
		if err != nil {
			return nil, err
		}
		if r.At[name], err = r.owner.Create(ctx, proxy, impl, []byte{}); err != nil {
			return nil, err
		}
		r.implementation[name] = impl
	}
	if err := r.Send(ctx, RollupConfig, "set", r.At[RollupPortal], new(big.Int).SetUint64(l2ChainID)); err != nil {
		return nil, err
	}
	if err := r.Send(ctx, RollupPortal, "set", r.At[RollupConfig], r.At[RollupRegistry]); err != nil {
		return nil, err
	}
	if err := r.Send(ctx, RollupRegistry, "set", r.At[RollupConfig], r.At[RollupFactory], GameType); err != nil {
		return nil, err
	}
	var err error
	r.Implementation, err = r.AddType(ctx, GameType)
	return r, err
}

// AddType makes the factory create games of a type.
func (r *Rollup) AddType(ctx context.Context, gameType uint32) (common.Address, error) {
	impl, err := r.owner.Create(ctx, RollupGame, r.At[RollupRegistry], gameType)
	if err != nil {
		return impl, err
	}
	return impl, r.Send(ctx, RollupFactory, "setImplementation", gameType, impl)
}

// Send calls a writer of one of the four contracts.
func (r *Rollup) Send(ctx context.Context, name, method string, args ...any) error {
	return r.owner.SendTo(ctx, name, r.At[name], method, args...)
}

// SetGame sets a game's status, the number of its proofs, and which intermediate root was countered, from 1.
func (r *Rollup) SetGame(ctx context.Context, game common.Address, status, proofs uint8, countered int64) error {
	return r.owner.SendTo(ctx, RollupGame, game, "set", status, proofs, big.NewInt(countered))
}

// Alter makes a contract's function return output, or revert if it is nil. For games it alters only later ones.
func (r *Rollup) Alter(ctx context.Context, name, signature string, output []byte) error {
	of := r.implementation[name]
	if name == RollupGame {
		of = r.Implementation
	}
	altered, err := r.owner.Create(ctx, rollupAltered, of, [4]byte(crypto.Keccak256([]byte(signature))), output == nil, output)
	if err != nil {
		return err
	}
	if name == RollupGame {
		return r.Send(ctx, RollupFactory, "setImplementation", GameType, altered)
	}
	return r.owner.SendTo(ctx, rollupUpgradable, r.At[name], "upgradeTo", altered)
}

// Proposal is a claim about L2.
type Proposal struct {
	Type   uint32         // of the game; zero means GameType
	Parent common.Address // zero if the game begins at the anchor root
	Block  uint64
	Roots  []common.Hash // in equal steps from the game's start to Block; the last one is the claim
	Claim  common.Hash   // zero means the last of Roots
}

func (p *Proposal) args(r *Rollup) []any {
	if p.Type == 0 {
		p.Type = GameType
	}
	if p.Parent == (common.Address{}) {
		p.Parent = r.At[RollupRegistry]
	}
	if p.Claim == (common.Hash{}) {
		p.Claim = p.Roots[len(p.Roots)-1]
	}
	extra := append(common.BigToHash(new(big.Int).SetUint64(p.Block)).Bytes(), p.Parent[:]...)
	for _, root := range p.Roots {
		extra = append(extra, root[:]...)
	}
	return []any{p.Type, p.Claim, extra}
}

// Propose creates a game. It is in progress and has one proof.
func (r *Rollup) Propose(ctx context.Context, p Proposal) (common.Address, error) {
	if err := r.Send(ctx, RollupFactory, "create", p.args(r)...); err != nil {
		return common.Address{}, err
	}
	a, err := Contract(RollupFactory)
	if err != nil {
		return common.Address{}, err
	}
	var out []any
	bound := bind.NewBoundContract(r.At[RollupFactory], a.ABI, r.owner.backend, r.owner.backend, r.owner.backend)
	if err := bound.Call(&bind.CallOpts{Context: ctx}, &out, "games", p.args(r)...); err != nil {
		return common.Address{}, fmt.Errorf("finding the game: %w", err)
	}
	return out[0].(common.Address), nil
}

// Forget leaves a game in the factory's list, but games() no longer returns it.
func (r *Rollup) Forget(ctx context.Context, p Proposal) error {
	return r.Send(ctx, RollupFactory, "forget", p.args(r)...)
}
