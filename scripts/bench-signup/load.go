package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
)

// source posts signups of ever new users.
type source struct {
	secret signup.Secret
	next   atomic.Int64
}

// signUp posts the signup of a new user.
func (s *source) signUp(ctx context.Context, client *http.Client, address string) error {
	return s.post(ctx, client, address, signup.UserCreated, orchestrator.UserID(fmt.Sprintf("user-%d", s.next.Add(1))))
}

// post sends one event, which must be taken in.
func (s *source) post(ctx context.Context, client *http.Client, address, kind string, user orchestrator.UserID) error {
	now := time.Now()
	body, err := signup.Event{Type: kind, At: now, User: user}.Encode()
	if err != nil {
		return err
	}
	header, err := s.secret.Sign("msg_"+kind+"_"+string(user), now, body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+signup.Path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making a webhook: %w", err)
	}
	header.Set("Content-Type", "application/json")
	req.Header = header
	return do(client, req, http.StatusOK)
}

func do(client *http.Client, req *http.Request, want int) error {
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s answered %s: %s", req.URL, resp.Status, text)
	}
	return nil
}

// send posts signups from so many clients until the count or, where that is 0,
// the time is reached, and returns how many a second were taken in.
func (s *source) send(ctx context.Context, address string, clients, count int, window time.Duration) (float64, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var begun, done atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range clients {
		group.Go(func() error {
			for (count == 0 && time.Since(began) < window) || begun.Add(1) <= int64(count) {
				if err := s.signUp(ctx, client, address); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), err
}

// agent is what a machine is to the control plane once it has enrolled.
type agent struct {
	certificate tls.Certificate
	session     attest.Digest
}

func newAgent() (agent, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return agent{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return agent{}, fmt.Errorf("making a certificate: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return agent{}, fmt.Errorf("encoding a key: %w", err)
	}
	return agent{certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, session: attest.Sum(spki)}, nil
}

// beat heartbeats as often as machines are asked to, until ctx ends.
func (a agent) beat(ctx context.Context, address string, every time.Duration) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{a.certificate},
		InsecureSkipVerify: true, //nolint:gosec // which control plane it is does not matter here
	}}}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(api.Heartbeat{Machine: readyMachine, Running: true, Healthy: true})
	if err != nil {
		return fmt.Errorf("encoding a heartbeat: %w", err)
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+api.HeartbeatPath, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("making a heartbeat: %w", err)
		}
		if err := do(client, req, http.StatusNoContent); err != nil {
			return err
		}
		if wait(ctx, every) != nil {
			return nil
		}
	}
}
