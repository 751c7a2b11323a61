package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newFnInvokeCommand(open fnOpener) *cobra.Command {
	var flags clientFlags
	var method, path, data string
	cmd := &cobra.Command{
		Use:   "invoke URL NAME",
		Short: "call a function and print what it answers",
		Long: `invoke calls a function as an HTTP request would. Its body is what --data names:
a text, or @FILE, or @- for the standard input.`,
		Args: cobra.ExactArgs(2),
		RunE: open.run(&flags, func(ctx context.Context, cmd *cobra.Command, f functions, args []string) error {
			body, err := fnBody(cmd.InOrStdin(), data)
			if err != nil {
				return err
			}
			resp, err := f.ask(ctx, method, fnAPI+"/"+url.PathEscape(args[0])+"/invoke"+path, bytes.NewReader(body), nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return invoked(cmd, resp)
		}),
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&method, "method", http.MethodPost, "method of the request")
	cmd.Flags().StringVar(&path, "path", "", "path below the function, with its query, such as /a?b=c")
	cmd.Flags().StringVar(&data, "data", "", "body of the request: a text, @FILE or @-")
	return cmd
}

// invoked prints what a function answered, whatever its status, or says why it
// did not.
func invoked(cmd *cobra.Command, resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	switch {
	case kind == "application/problem+json" && resp.StatusCode == http.StatusGatewayTimeout:
		return cli.Hinted(refusalOf(resp), "a function's settings say how long it may take")
	case kind == "application/problem+json":
		return refusalOf(resp)
	}
	b, err := readAnswer(resp)
	if err != nil {
		return err
	}
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"status": resp.StatusCode, "content_type": kind, "body": string(b)})
	}
	if _, err := cli.ForPeople(cmd.OutOrStdout()).Write(b); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func fnBody(in io.Reader, data string) ([]byte, error) {
	name, isFile := strings.CutPrefix(data, "@")
	switch {
	case !isFile:
		return []byte(data), nil
	case name == "-":
		b, err := io.ReadAll(io.LimitReader(in, maxFnAnswer))
		if err != nil {
			return nil, fmt.Errorf("reading the standard input: %w", err)
		}
		return b, nil
	}
	b, err := readCapped(name, maxFnAnswer)
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return b, nil
}
