package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

func newWebhookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "act as a signup source, to try a control plane out",
	}
	cmd.AddCommand(newWebhookSendCommand())
	return cmd
}

// maxOutcomeBytes caps the answer to a webhook.
const maxOutcomeBytes = 64 << 10

// webhookOptions are one message.
type webhookOptions struct {
	secretFile, url, kind, user, id, at string
	timeout                             time.Duration
}

// outcome is the control plane's answer.
type outcome struct {
	Result   string `json:"result"`
	Instance string `json:"instance,omitempty"`
	Reason   string `json:"reason,omitempty"`
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
				return explainAdmin(err)
			}
			return cli.PrintResult(cmd, outcome, "%s %s %s\n", outcome.Result, outcome.Instance, outcome.Reason)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "the user's id")
	f.StringVar(&o.kind, "type", "user.created", "the event: user.created or user.deleted")
	f.StringVar(&o.secretFile, "secret-file", "", "file with the whsec_ secret (default: the state directory's)")
	f.StringVar(&o.url, "url", "", "where to post it (default: the control plane of the state directory)")
	f.StringVar(&o.id, "id", "", "webhook-id (default: drawn)")
	f.StringVar(&o.at, "timestamp", "", "the event's time, RFC 3339 (default: now)")
	f.DurationVar(&o.timeout, "timeout", answerTimeout, "give up when the answer takes longer")
	cobra.CheckErr(cmd.MarkFlagRequired("user"))
	return cmd
}

// complete fills in what was left out.
func (o *webhookOptions) complete(cmd *cobra.Command) error {
	if o.secretFile == "" {
		o.secretFile = filepath.Join(cli.ControlDir(cmd), adminclient.SecretFile)
	}
	if o.url == "" {
		known, err := readAddresses(cmd)
		if err != nil {
			return err
		}
		o.url = "http://" + known.Webhooks + adminclient.WebhookPath
	}
	if o.id == "" {
		o.id = "msg_" + rand.Text()
	}
	return nil
}

func (o *webhookOptions) request(ctx context.Context) (*http.Request, error) {
	text, err := os.ReadFile(o.secretFile)
	if err != nil {
		return nil, cli.NotFound(fmt.Errorf("reading the webhook secret: %w", err))
	}
	encoded, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "whsec_")
	secret, err := webhooks.NewWebhook(encoded)
	if err != nil || !ok {
		return nil, errors.New("reading the webhook secret: want whsec_ and base64")
	}
	now := time.Now()
	at := now
	if o.at != "" {
		if at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return nil, cli.Usage(fmt.Errorf("reading --timestamp: %w", err))
		}
	}
	body, err := json.Marshal(map[string]any{
		"type": o.kind, "timestamp": at.UTC().Format(time.RFC3339Nano), "data": map[string]any{"user_id": o.user},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the event: %w", err)
	}
	signature, err := secret.Sign(o.id, now, body)
	if err != nil {
		return nil, fmt.Errorf("signing the webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("reading --url: %w", err))
	}
	req.Header.Set(webhooks.HeaderWebhookID, o.id)
	req.Header.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(webhooks.HeaderWebhookSignature, signature)
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

func (o *webhookOptions) send(ctx context.Context) (out outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	req, err := o.request(ctx)
	if err != nil {
		return out, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return out, fmt.Errorf("posting the webhook: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return out, adminclient.ErrorOf(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxOutcomeBytes)).Decode(&out); err != nil {
		return out, fmt.Errorf("reading the answer: %w", err)
	}
	return out, nil
}
