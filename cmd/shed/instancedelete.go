package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

const instanceDeleteLong = `delete asks for an instance to be deleted, with its machine and all of its
owner's data. The request outlives this command: deleting goes on by itself, and
--wait stays until it is done. On a terminal it asks first; elsewhere, or with
--yes, it does not.

` + instanceLong

func newInstanceDeleteCommand() *cobra.Command {
	var w waitOptions
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete INSTANCE",
		Short: "delete an instance, its machine and its data",
		Long:  instanceDeleteLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			name := i.ID
			if i.UserID != "" {
				name = fmt.Sprintf("%s of user %s", i.ID, i.UserID)
			}
			if !yes {
				if err := confirm(cmd, "delete instance "+name+" with its data, for good?"); err != nil {
					return err
				}
			}
			if i, err = c.Delete(cmd.Context(), i.ID); err != nil {
				return err
			}
			if w.wait || cli.WantsJSON(cmd) {
				return w.finish(cmd, c, i, "deleted")
			}
			return cli.PrintResult(cmd, i, "deletion requested: instance %s\n`shed instance wait %s --for deleted` stays until it is done\n", name, i.ID)
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(cmd, "deleted")
	return cmd
}

var errNotConfirmed = errors.New("nothing was done: it was not confirmed")

// confirm asks the person at the terminal; where nobody is, it agrees.
func confirm(cmd *cobra.Command, question string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	// An answer that does not come is none.
	answer, _ := bufio.NewReader(in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}
