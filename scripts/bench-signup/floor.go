package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/signup"

	_ "modernc.org/sqlite" // the driver that the store uses too
)

// serveFloor is the least that could be done for a webhook that must not be
// lost: its signature checked, and one INSERT on the disk before the answer.
func serveFloor(_ context.Context, dir string) (err error) {
	secret, err := readSecret(dir)
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "floor.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return fmt.Errorf("opening the floor's database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE inbox (id TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT"); err != nil {
		return fmt.Errorf("making the floor's table: %w", err)
	}
	insert, err := db.Prepare("INSERT INTO inbox (id, body) VALUES (?, ?)")
	if err != nil {
		return fmt.Errorf("preparing the floor's statement: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{Handler: floorHandler(secret, insert), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	return errors.Join(answer(greeting{Webhooks: l.Addr().String()}), server.Close())
}

func floorHandler(secret signup.Secret, insert *sql.Stmt) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, signup.MaxBodyBytes))
		var id string
		if err == nil {
			id, err = secret.Check(r.Header, body, time.Now())
		}
		if err == nil {
			_, err = insert.Exec(id, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "{}\n")
	})
}

func readSecret(dir string) (signup.Secret, error) {
	text, err := os.ReadFile(filepath.Join(dir, controlplane.SecretFile))
	if err != nil {
		return signup.Secret{}, fmt.Errorf("reading the webhook secret: %w", err)
	}
	return signup.ParseSecret(string(text))
}
