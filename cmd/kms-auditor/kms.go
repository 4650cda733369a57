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
		Short: "List every KMS (getKmsList)",
		Long: "List every KMS of the API, from all pages (getKmsList). Up to API version 2026-05-22 a row is a node, and several\n" +
			"nodes may share a contract; later a row is a contract.",
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
		Args:  oneArg("the id or slug of a KMS, as kms-auditor kms list shows it"),
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
		Short: "Show the API's claims about a chain (getKmsOnChainDetail)",
		Args:  oneArg("the API's name of a chain, such as base"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return g.completed(chainNames)(cmd, args, typed)
		},
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
		Short: "Ask the API and show its answer",
		Long: "Ask the API and show its answer. Nothing is compared with a chain, and no provider is asked.\n" +
			"Only api and timeout of the configuration are used.\n\n" +
			"Exit codes: 0 the API answered, 2 usage or configuration, 3 it did not answer, or its answer cannot be used.",
	}, list, show, onChain, newKMSAppIDs(f))
	f.output.addTo(cmd, "`FORMAT`: text, or json as docs/kms.md describes it")
	return cmd
}

type ask func(ctx context.Context, c *kmsapi.Client, args []string) (render.Answer, error)

// run asks the API within the timeout of one audit, after the configuration and the checks are fine. It shows the answer
// even if there is an error beside it.
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
			err = errors.Join(err, f.output.show(cmd.OutOrStdout(), answer, false))
		}
		return exitWith(exitUnknown, err)
	}
}
