package witness

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/toolshed-cloud/shed/attest"
)

// AddPath is where a checkpoint is submitted, below the witness's URL.
const AddPath = "/add-checkpoint"

// The content type of a conflict's answer, as the protocol has it.
const sizeType = "text/x.tlog.size"

// Handler answers POST /add-checkpoint. fault is told of errors of the disk,
// which the asker does not see.
func (w *Witness) Handler(fault func(error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+AddPath, func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, MaxRequestBytes))
		if err != nil {
			http.Error(rw, "the request does not arrive whole, or is too large", http.StatusBadRequest)
			return
		}
		request, err := ParseRequest(body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		line, err := w.Add(request)
		if err != nil {
			refuse(rw, err, fault)
			return
		}
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = rw.Write(line)
	})
	return mux
}

func refuse(rw http.ResponseWriter, err error, fault func(error)) {
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		rw.Header().Set("Content-Type", sizeType)
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", conflict.Size)
	case errors.Is(err, attest.ErrMalformed):
		http.Error(rw, err.Error(), http.StatusBadRequest)
	case errors.Is(err, ErrUnknownLog):
		http.Error(rw, err.Error(), http.StatusNotFound)
	case errors.Is(err, ErrBadSignature):
		http.Error(rw, err.Error(), http.StatusForbidden)
	case errors.Is(err, ErrInconsistent):
		http.Error(rw, err.Error(), http.StatusUnprocessableEntity)
	default:
		fault(err)
		http.Error(rw, "the witness cannot keep its state", http.StatusInternalServerError)
	}
}
