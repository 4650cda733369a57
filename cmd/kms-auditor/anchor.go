package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/l1"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func newAnchor(g *global) *cobra.Command {
	var output format
	status := &cobra.Command{
		Use:   "status",
		Short: "Show what each beacon endpoint finalized last",
		Long: "Ask each beacon endpoint for the block that it finalized last, and verify the answer, starting at the configured\n" +
			"checkpoint or at the newest root that audits verified.\n\n" +
			"Exit codes: 0 every endpoint is up to date, 2 usage or configuration, 3 one is not.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load(cmd.Context())
			if err != nil {
				return err
			}
			past := remembered(cfg)
			out, failed := render.Anchors{Chains: []render.AnchorStatus{}}, false
			ctx, cancel := context.WithTimeout(cmd.Context(), cfg.Timeout)
			defer cancel()
			for _, c := range cfg.Chains {
				if c.Anchor == nil {
					continue
				}
				of := c.Anchor
				if of.L1 != nil {
					of = of.L1.Anchor
				}
				s := render.AnchorStatus{Chain: c.Name, Network: of.Network.Name, Checkpoint: of.Checkpoint.Hex(), Required: c.Anchor.Required.String()}
				prior := past.Prior(c.Name)
				if root := prior.VerifiedFrom(of.Checkpoint); root != (common.Hash{}) {
					s.Remembered = root.Hex()
				}
				for _, e := range daemon.AskAnchor(ctx, of, prior, "kms-auditor/"+build().Version) {
					row := render.EndpointHead{Name: e.Endpoint}
					if e.Err != nil {
						row.Error, failed = e.Err.Error(), true
					}
					if h := e.Head; h != nil {
						at := time.Unix(int64(h.Finalized.Timestamp), 0).UTC()
						row.Finalized, row.Hash, row.Time, row.Start = h.Finalized.BlockNumber, h.Finalized.BlockHash.Hex(), &at, h.Documents.Checkpoint.Hex()
					}
					s.Endpoints = append(s.Endpoints, row)
				}
				if c.Anchor.L1 != nil {
					s.L1 = l1Status(ctx, c, prior)
					failed = failed || len(s.L1.Problems) > 0
				}
				out.Chains = append(out.Chains, s)
			}
			err = output.show(cmd.OutOrStdout(), out, false)
			if failed {
				err = errors.Join(err, &exitError{exitUnknown, errors.New("an endpoint or L1 is not up to date: see above")})
			}
			return err
		},
	}
	cmd := group(&cobra.Command{Use: "anchor", Short: "Show the light clients that check block hashes"}, status)
	output.addTo(cmd, "`FORMAT`: text or json")
	return cmd
}

// l1Status asks what L1 holds of a chain's blocks.
func l1Status(ctx context.Context, c config.Chain, prior audit.Prior) *render.L1Status {
	out := &render.L1Status{Chain: c.Anchor.L1.Name, SystemConfig: c.Anchor.SystemConfig.Hex(), Problems: []string{}}
	holds, err := daemon.AskL1(ctx, c, prior, "kms-auditor/"+build().Version)
	if err != nil {
		out.Problems = append(out.Problems, err.Error())
		return out
	}
	for _, p := range holds.Points {
		if out.Proposed = max(out.Proposed, p.Block); p.Trust == l1.Anchored {
			out.Anchored = max(out.Anchored, p.Block)
		}
	}
	for _, err := range holds.Lacks {
		out.Problems = append(out.Problems, err.Error())
	}
	for _, g := range holds.Games {
		if g.Err != nil {
			out.Problems = append(out.Problems, fmt.Sprintf("game %d, %s: %s", g.Index, g.Address, g.Err))
		}
	}
	return out
}
