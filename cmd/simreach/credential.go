package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/simreach/simreach/manager/api"
)

func credentialCommand(o *accessOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credential",
		Short: "Manage what client certificates are checked with",
	}
	cmd.AddCommand(registerCredential(o), listCredentials(o), revokeCredential(o), revokeSerial(o))
	return cmd
}

func registerCredential(o *accessOptions) *cobra.Command {
	var key, name string
	cmd := &cobra.Command{
		Use:     "register CA-FILE",
		Short:   "Register the certificate of a CA whose clients may connect, and print the credential's ID",
		Example: "  simreach access credential register clients-ca.pem --name 'field engineers'",
		Args:    cobra.ExactArgs(1),
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			r := api.CreateCredential{Name: name}
			var err error
			if r.CACertificate, err = public(args[0]); err != nil {
				return fmt.Errorf("read the CA's certificate: %w", err)
			}
			if key != "" {
				if r.PublicKey, err = public(key); err != nil {
					return fmt.Errorf("read the public key: %w", err)
				}
			}
			return o.withSession(ctx, shortLogin, func(s *session) error {
				c, err := s.RegisterCredential(ctx, r)
				if err != nil {
					return err
				}
				if o.json {
					return printJSON(cmd.OutOrStdout(), c)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), c.CredentialID)
				return err
			})
		}),
	}
	cmd.Flags().StringVar(&key, "key", "", "file with the CA's public key, PEM or DER; empty: as the certificate has it")
	cmd.Flags().StringVar(&name, "name", "", "a name for people")
	return cmd
}

// public reads a file for the manager, in the form that it takes: PEM, or DER in base64.
// A private key is nobody else's business, not even to refuse it.
func public(file string) (string, error) {
	b, err := os.ReadFile(file)
	switch {
	case err != nil:
		return "", err
	case bytes.Contains(b, []byte("PRIVATE KEY-----")):
		return "", fmt.Errorf("%s: there is a private key in it, which nobody else may see: nothing was sent", file)
	case bytes.Contains(b, []byte("-----BEGIN ")):
		return string(b), nil
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

func listCredentials(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the credentials, those revoked in the last day too",
		Args:  cobra.NoArgs,
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error {
				cs, err := s.ListCredentials(ctx)
				if err != nil {
					return err
				}
				if o.json {
					return printJSON(cmd.OutOrStdout(), slices.Concat([]api.Credential{}, cs))
				}
				rows := make([][]string, len(cs))
				for i, c := range cs {
					revoked := "no"
					if c.RevokedAt != nil {
						revoked = localTime(*c.RevokedAt, clock)
					}
					rows[i] = []string{c.CredentialID, localTime(c.CreatedAt, clock), revoked, strconv.Itoa(len(c.RevokedSerials)), c.Name}
				}
				return table(cmd.OutOrStdout(), "ID CREATED REVOKED SERIALS NAME", rows)
			})
		}),
	}
}

func revokeCredential(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "End a credential for good; connections that it let in are cut",
		Args:  cobra.ExactArgs(1),
		RunE: o.runs(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error { return s.RevokeCredential(ctx, args[0]) })
		}),
	}
}

func revokeSerial(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke-serial ID SERIAL...",
		Short: "Let client certificates in no more, by their serial numbers in hexadecimal",
		Long: "Let client certificates in no more, by their serial numbers in hexadecimal, as openssl prints them;\n" +
			"connections that they let in are cut. Two who do this at the same time may undo each other: the list shows\n" +
			"how many are revoked.",
		Args: cobra.MinimumNArgs(2),
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error {
				c, err := s.Credential(ctx, args[0])
				if err != nil {
					return err
				}
				c, err = s.SetRevokedSerials(ctx, args[0], append(c.RevokedSerials, args[1:]...))
				if err != nil || !o.json {
					return err
				}
				return printJSON(cmd.OutOrStdout(), c)
			})
		}),
	}
}
