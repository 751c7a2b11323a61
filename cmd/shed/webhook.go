package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
)

func newWebhookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "act as a signup source, to try a control plane out",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newWebhookSendCommand())
	return cmd
}

// webhookTimeout is how long an answer is waited for, as signup sources do.
const webhookTimeout = 30 * time.Second

// webhookOptions are one message.
type webhookOptions struct {
	secretFile, url, kind, user, id, at string
}

func newWebhookSendCommand() *cobra.Command {
	var o webhookOptions
	cmd := &cobra.Command{
		Use:   "send --user USER",
		Short: "sign a signup webhook and post it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd); err != nil {
				return err
			}
			outcome, err := o.send(cmd.Context())
			if err != nil {
				return err
			}
			return printResult(cmd, outcome, "%s %s %s\n", outcome.Result, outcome.Instance, outcome.Reason)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "the user's id")
	f.StringVar(&o.kind, "type", signup.UserCreated, "the event: "+signup.UserCreated+" or "+signup.UserDeleted)
	f.StringVar(&o.secretFile, "secret-file", "", "file with the whsec_ secret (default: the state directory's)")
	f.StringVar(&o.url, "url", "", "where to post it (default: the control plane of the state directory)")
	f.StringVar(&o.id, "id", "", "webhook-id (default: drawn)")
	f.StringVar(&o.at, "timestamp", "", "the event's time, RFC 3339 (default: now)")
	cobra.CheckErr(cmd.MarkFlagRequired("user"))
	return cmd
}

// complete fills in what was left out.
func (o *webhookOptions) complete(cmd *cobra.Command) error {
	if o.secretFile == "" {
		o.secretFile = filepath.Join(controlDir(cmd), controlplane.SecretFile)
	}
	if o.url == "" {
		known, err := readAddresses(cmd)
		if err != nil {
			return err
		}
		o.url = "http://" + known.Webhooks + signup.Path
	}
	if o.id == "" {
		id, err := orchestrator.NewID(rand.Reader)
		if err != nil {
			return err
		}
		o.id = "msg_" + id
	}
	return nil
}

func (o *webhookOptions) request(ctx context.Context) (*http.Request, error) {
	text, err := os.ReadFile(o.secretFile)
	if err != nil {
		return nil, notFound(fmt.Errorf("reading the webhook secret: %w", err))
	}
	secret, err := signup.ParseSecret(string(text))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	event := signup.Event{Type: o.kind, At: now, User: orchestrator.UserID(o.user)}
	if o.at != "" {
		if event.At, err = time.Parse(time.RFC3339, o.at); err != nil {
			return nil, usage(fmt.Errorf("reading --timestamp: %w", err))
		}
	}
	body, err := event.Encode()
	if err != nil {
		return nil, err
	}
	header, err := secret.Sign(o.id, now, body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return nil, usage(fmt.Errorf("reading --url: %w", err))
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func (o *webhookOptions) send(ctx context.Context) (outcome signup.Outcome, err error) {
	req, err := o.request(ctx)
	if err != nil {
		return outcome, err
	}
	client := http.Client{Timeout: webhookTimeout}
	resp, err := client.Do(req)
	if err != nil {
		return outcome, unreached(fmt.Errorf("posting the webhook: %w", err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return outcome, problemOf(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&outcome); err != nil {
		return outcome, fmt.Errorf("reading the answer: %w", err)
	}
	return outcome, nil
}
