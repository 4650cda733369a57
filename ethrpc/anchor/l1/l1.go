// Package l1 reads an OP-stack chain's output roots from its contracts on L1, and compares them with an audited block.
//
// Read calls the contracts' own getters at one L1 block: from the SystemConfig to the portal, the registry and the factory, then
// the newest dispute games. A game whose getters give unexpected answers makes no Point. Covering chooses the Point whose parent
// hashes lead down to an L2 block, and Point.Confirm follows these hashes through given headers.
//
// The package does no I/O: calls go to a Caller, which runs them over proven state and is trusted.
package l1

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// Caller calls contracts at one L1 block. Call returns an error if the calls failed as a whole; a contract's failure is in its
// Answer.
type Caller interface {
	Call(ctx context.Context, calls ...proof.Call) ([]proof.Answer, error)
}

// Chain is an L2 chain.
type Chain struct {
	ID           uint64
	SystemConfig common.Address // on L1
}

// Trust says who vouches for an L2 block.
type Trust uint8

// The levels of Trust, from the weakest to the strongest.
const (
	Providers Trust = iota // only the providers
	Proposed               // a game that is proven and not countered
	Anchored               // the registry, which adopted a game's claim
)

func (t Trust) String() string { return [...]string{"providers", "l1_proposed", "l1_anchored"}[t] }

// Point is an L2 block whose output root is on L1.
type Point struct {
	Trust Trust
	Block uint64
	Root  common.Hash
	Game  common.Address // that claims it; zero for an anchor root without a game
	Reach uint64         // maximum number of headers down from it, including its own
}

// Game is a dispute game that was read.
type Game struct {
	Index   uint64
	Address common.Address
	Err     error // why it does not count, or nil
}

// Reading is what was read on L1 about the L2 chain.
type Reading struct {
	Points []Point
	Games  []Game  // newest first
	Lacks  []error // why Points is empty or incomplete
}

// Limits of a Reading. Base creates a game every 20 minutes, so maxGames covers a day.
const (
	maxGames    = 80
	gamesAtOnce = 4   // in the first round; each further round doubles the total
	maxReach    = 300 // headers; 30 are enough if a game has an intermediate root every 30 blocks
)

// reader is one Read.
type reader struct {
	Reading
	caller                    Caller
	portal, registry, factory common.Address
	respected                 uint32 // type of games
	count                     uint64 // of games

	anchor      query
	anchorRoot  common.Hash
	anchorBlock uint64
	anchorGame  common.Address // zero if the anchor root is not from a game
}

// Read reads the output roots of blocks from a number on. It reads games, the newest first, until one that counts begins below
// that block. It also reads the games in before, which counted earlier and may be resolved by now. The error is the Caller's; a
// contract's failure is in the Reading.
func Read(ctx context.Context, caller Caller, chain Chain, block uint64, before ...common.Address) (*Reading, error) {
	r := &reader{caller: caller}
	wrong, err := r.find(ctx, chain)
	if err == nil && wrong == nil {
		err = errors.Join(r.readAnchor(ctx), r.readGames(ctx, block), r.readBefore(ctx, before))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the L1 contracts of chain %d: %w", chain.ID, err)
	}
	if wrong != nil {
		r.Lacks = append(r.Lacks, wrong)
	}
	return &r.Reading, nil
}

// find finds the contracts and reads the anchor root. wrong says why they cannot be used.
func (r *reader) find(ctx context.Context, chain Chain) (wrong, err error) {
	var id uint64
	var configs [2]common.Address   // according to portal and registry
	var factories [2]common.Address // likewise; r.factory is from the SystemConfig
	var types [2]uint32
	var paused [2]bool
	ask := func(q *query, of common.Address, i int) {
		q.get(of, "systemConfig()", nil, &configs[i])
		q.get(of, "disputeGameFactory()", nil, &factories[i])
		q.get(of, "respectedGameType()", nil, &types[i])
		q.get(of, "paused()", nil, &paused[i])
	}
	var config, portal, registry query
	config.get(chain.SystemConfig, "l2ChainId()", nil, &id)
	config.get(chain.SystemConfig, "optimismPortal()", nil, &r.portal)
	if err := run(ctx, r.caller, &config); err != nil || config.err != nil {
		return config.err, err
	}
	portal.get(chain.SystemConfig, "disputeGameFactory()", nil, &r.factory)
	portal.get(r.portal, "anchorStateRegistry()", nil, &r.registry)
	ask(&portal, r.portal, 0)
	if err := run(ctx, r.caller, &portal); err != nil || portal.err != nil {
		return portal.err, err
	}
	ask(&registry, r.registry, 1)
	registry.get(r.factory, "gameCount()", nil, &r.count)
	r.anchor.get(r.registry, "getAnchorRoot()", nil, &r.anchorRoot, &r.anchorBlock)
	r.anchor.get(r.registry, "anchorGame()", nil, &r.anchorGame)
	if err := run(ctx, r.caller, &registry, &r.anchor); err != nil || registry.err != nil {
		return registry.err, err
	}
	r.respected = types[0]
	switch {
	case id != chain.ID:
		return fmt.Errorf("the SystemConfig %s is of chain %d, not %d", chain.SystemConfig, id, chain.ID), nil
	case configs != [2]common.Address{chain.SystemConfig, chain.SystemConfig}:
		return fmt.Errorf("portal and registry name the SystemConfigs %s and %s, not %s", configs[0], configs[1], chain.SystemConfig), nil
	case factories != [2]common.Address{r.factory, r.factory}:
		return fmt.Errorf("portal and registry name the factories %s and %s, but the SystemConfig names %s", factories[0], factories[1], r.factory), nil
	case types[0] != types[1]:
		return fmt.Errorf("portal and registry respect games of type %d and %d", types[0], types[1]), nil
	case paused != [2]bool{}:
		return errors.New("the contracts are paused"), nil
	}
	return nil, nil
}

// readAnchor adds the anchor root and the intermediate roots of its game, if the registry holds the game's claim valid.
func (r *reader) readAnchor(ctx context.Context) error {
	var valid bool
	var validity query
	var c claim
	if r.anchor.err == nil && r.anchorGame != (common.Address{}) {
		validity.get(r.registry, claimValid, r.anchorGame[:], &valid)
		c.ask(r.anchorGame)
		if err := run(ctx, r.caller, &validity, &c.query); err != nil {
			return err
		}
	}
	err := errors.Join(r.anchor.err, validity.err)
	switch {
	case err != nil:
	case r.anchorRoot == common.Hash{}:
		err = errors.New("the registry has no anchor root")
	case r.anchorGame != common.Address{} && !valid:
		err = fmt.Errorf("the registry does not hold the claim of its anchor game %s valid", r.anchorGame)
	default:
		r.Points = append(r.Points, Point{Anchored, r.anchorBlock, r.anchorRoot, r.anchorGame, maxReach})
		if r.anchorGame != (common.Address{}) {
			var points []Point
			points, err = c.points(Anchored, r.anchorGame)
			r.Points = append(r.Points, points...)
		}
	}
	if err != nil {
		r.Lacks = append(r.Lacks, fmt.Errorf("%s: %w", Anchored, err))
	}
	return nil
}

// errOld does not make a game Fallen.
var errOld = errors.New("its parent is too old to be read")

// readGames adds what games claim. A game counts only if its parent counts, as far as the parent was read. The parent of a game
// that claims the block or a later one must be read.
func (r *reader) readGames(ctx context.Context, block uint64) error {
	var games []game
	next, enough := r.count, false
	for next > 0 && !enough && len(games) < maxGames {
		some := make([]game, min(next, uint64(max(gamesAtOnce, len(games))), uint64(maxGames-len(games))))
		if err := r.judge(ctx, next-1, some); err != nil {
			return err
		}
		next -= uint64(len(some))
		games = append(games, some...)
		enough = r.reachesDown(games, block)
	}
	errs := map[common.Address]error{}
	for i := range slices.Backward(games) { // a parent is older
		g := &games[i]
		err, seen := errs[g.parent]
		switch {
		case g.Err != nil:
		case err != nil:
			g.Err = fmt.Errorf("its parent %s does not count: %w", g.parent, err)
		case !seen && g.block >= block && g.parent != r.registry:
			g.Err = fmt.Errorf("%w: %s", errOld, g.parent)
		}
		if errs[g.Address] = g.Err; g.Err == nil {
			r.Points = append(r.Points, g.claimed...)
		}
	}
	for _, g := range games {
		r.Games = append(r.Games, g.Game)
	}
	if next > 0 && !enough {
		r.Lacks = append(r.Lacks, fmt.Errorf("%s: none of the newest %d games counts and begins below block %d; older games are not read", Proposed, len(games), block))
	}
	return nil
}

const claimValid = "isGameClaimValid(address)"

// readBefore adds the claims of earlier games that the registry holds valid by now. It records why the others no longer count.
func (r *reader) readBefore(ctx context.Context, before []common.Address) error {
	games, valid, queries := make([]game, len(before)), make([]bool, len(before)), make([]*query, len(before))
	for i, at := range before {
		games[i].Address, queries[i] = at, &query{}
		queries[i].get(r.registry, claimValid, at[:], &valid[i])
		games[i].ask(r.registry)
		queries = append(queries, &games[i].query)
	}
	if err := run(ctx, r.caller, queries...); err != nil {
		return err
	}
	for i := range games {
		g := &games[i]
		if queries[i].err == nil && valid[i] {
			points, err := g.points(Anchored, g.Address)
			r.Points, g.Err = append(r.Points, points...), err
		} else {
			g.Err = g.fault(r.respected)
		}
		r.Games = append(r.Games, g.Game)
	}
	return nil
}

// Fallen returns why a game that counted before no longer counts, or nil.
func (r *Reading) Fallen(game common.Address) error {
	for _, g := range r.Games {
		if g.Address == game && g.Err != nil && !errors.Is(g.Err, errOld) {
			return g.Err
		}
	}
	return nil
}

// reachesDown reports whether a game that counts begins below the block. It also requires the parent of each game that counts and
// claims the block or a later one.
func (r *reader) reachesDown(games []game, block uint64) (down bool) {
	for _, g := range games {
		isParent := func(p game) bool { return p.Address == g.parent }
		if g.Err == nil && g.block >= block && g.parent != r.registry && !slices.ContainsFunc(games, isParent) {
			return false
		}
		down = down || g.Err == nil && g.start < block
	}
	return down
}

// Covering returns the Point with the strongest Trust from which headers lead down to a block; among those, the one with the fewest
// headers. The error says why no Point covers the block yet.
func (r *Reading) Covering(block uint64) (Point, error) {
	var best, newest Point
	for _, p := range r.Points {
		if p.Block >= newest.Block {
			newest = p
		}
		if covers := p.Block >= block && p.Block-block < p.Reach; covers && (p.Trust > best.Trust || p.Trust == best.Trust && p.Block < best.Block) {
			best = p
		}
	}
	for _, p := range r.Points {
		if p.Block == best.Block && p.Root != best.Root && best.Trust != Providers {
			return Point{}, fmt.Errorf("L1 has two output roots of block %d: %s by %s and %s by %s", p.Block, best.Root, best.Game, p.Root, p.Game)
		}
	}
	if best.Trust != Providers {
		return best, nil
	}
	errs := slices.Clone(r.Lacks)
	for _, g := range r.Games {
		if g.Err != nil {
			errs = append(errs, fmt.Errorf("game %d (%s): %w", g.Index, g.Address, g.Err))
		}
	}
	if newest.Trust != Providers {
		errs = append(errs, fmt.Errorf("the newest block with an output root on L1 is %d (%s)", newest.Block, newest.Trust))
	}
	return Point{}, fmt.Errorf("no output root on L1 covers block %d yet: %w", block, errors.Join(errs...))
}
