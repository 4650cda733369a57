package main

import (
	"context"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/render"
)

func newAnchor(g *global) *cobra.Command {
	var output format
	status := &cobra.Command{
		Use:   "status",
		Short: "Show where the light client of each chain stands",
		Long: "Ask each beacon endpoint alone for what was finalized last, and show what it proves, from the checkpoint or from\n" +
			"the root that audits verified last.\n\n" +
			"Exit codes: 0 every endpoint is up to date, 2 usage or configuration, 3 one is not.",
		Args: cobra.NoArgs,
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
				s := render.AnchorStatus{Chain: c.Name, Network: c.Anchor.Network.Name, Checkpoint: c.Anchor.Checkpoint.Hex(), Required: c.Anchor.Required}
				prior := past.Prior(c.Name)
				if root := prior.VerifiedFrom(c.Anchor.Checkpoint); root != (common.Hash{}) {
					s.Remembered = root.Hex()
				}
				for _, e := range daemon.AskAnchor(ctx, c.Anchor, prior, "kms-auditor/"+build().Version) {
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
				out.Chains = append(out.Chains, s)
			}
			err = output.show(cmd.OutOrStdout(), out)
			if failed {
				err = errors.Join(err, &exitError{exitUnknown, errors.New("not every endpoint is up to date")})
			}
			return err
		},
	}
	cmd := group(&cobra.Command{Use: "anchor", Short: "Show who vouches for the blocks beside the providers"}, "status", status)
	output.addTo(cmd, "text or json")
	return cmd
}
