package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

type kmsFlags struct {
	*global
	output format
}

func newKMS(g *global) *cobra.Command {
	f := &kmsFlags{global: g}
	var filter kmsapi.Filter
	list := &cobra.Command{
		Use:   "list",
		Short: "List the KMS that there are (getKmsList)",
		Long: "List the KMS that there are, all pages of them (getKmsList).\n" +
			"Up to API version 2026-05-22 these are nodes, of which several may have one contract; later they are contracts.",
		Args: noArgs,
		RunE: f.run(func(ctx context.Context, c *kmsapi.Client, _ []string) (render.Answer, error) {
			l, err := c.List(ctx, filter)
			if err != nil {
				return nil, err
			}
			return render.NewKMSList(l), nil
		}),
	}
	list.Flags().BoolVar(&filter.OnChain, "onchain", false, "only those with a contract on a chain")
	show := &cobra.Command{
		Use:   "show ID",
		Short: "Show one KMS, by id or slug (getKmsInfo)",
		Args:  cobra.ExactArgs(1),
		RunE: f.run(func(ctx context.Context, c *kmsapi.Client, args []string) (render.Answer, error) {
			k, err := c.Info(ctx, args[0])
			if err != nil {
				return nil, err
			}
			return render.NewKMS(k), nil
		}),
	}
	onChain := &cobra.Command{
		Use:   "on-chain CHAIN",
		Short: "Show what the API claims of the contracts of a chain (getKmsOnChainDetail)",
		Args:  cobra.ExactArgs(1),
		RunE: f.run(func(ctx context.Context, c *kmsapi.Client, args []string) (render.Answer, error) {
			d, err := c.OnChainDetail(ctx, args[0])
			if err != nil {
				return nil, err
			}
			return render.NewOnChain(d), nil
		}),
	}
	cmd := group(&cobra.Command{
		Use:   "kms",
		Short: "Ask the API, and show what it says as it says it",
		Long: "Ask the API, and show what it says as it says it: nothing is compared with a chain, and no provider is asked.\n" +
			"Of the configuration, only api and timeout are used.\n\n" +
			"Exit codes: 0 the API answered, 2 usage or configuration, 3 it did not, or its answer cannot be used.",
	}, "list, show, on-chain or next-app-ids", list, show, onChain, newKMSAppIDs(f))
	f.output.addTo(cmd, "text, or json as docs/kms.md describes it")
	return cmd
}

type ask func(ctx context.Context, c *kmsapi.Client, args []string) (render.Answer, error)

// run asks the API within the time of one audit, once the configuration and the checks are fine, and shows the answer,
// even where there is an error beside it.
func (f *kmsFlags) run(what ask, checks ...func(*cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := f.load(cmd.Context())
		if err != nil {
			return err
		}
		c, err := kmsapi.New(kmsapi.Options{
			BaseURL: cfg.API.BaseURL, Version: cfg.API.Version, Key: cfg.API.Key, Timeout: cfg.API.Timeout,
			UserAgent: "kms-auditor/" + build().Version,
		})
		if err != nil {
			return &exitError{exitUsage, err}
		}
		defer c.Close()
		for _, check := range checks {
			if err := check(cmd); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), cfg.Timeout)
		defer cancel()
		answer, err := what(ctx, c, args)
		if answer != nil {
			err = errors.Join(err, f.output.show(cmd.OutOrStdout(), answer))
		}
		return exitWith(exitUnknown, err)
	}
}
