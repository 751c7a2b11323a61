package img

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// call posts JSON and reads JSON. Errors are an *upstream.Error, a
// *upstream.RequestError and ctx's.
func call(ctx context.Context, client Doer, url, authorization string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return &upstream.RequestError{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(encoded))
	if err != nil {
		return &upstream.RequestError{Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	answer, err := upstream.Exchange(client, req, maxAnswer)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return upstream.Breaks("its answer: %w", err)
	}
	return nil
}

// fetchImage reads an image from where a provider says that it is.
func fetchImage(ctx context.Context, client Doer, address string) ([]byte, error) {
	if data, ok := strings.CutPrefix(address, "data:"); ok {
		_, encoded, ok := strings.Cut(data, ";base64,")
		if !ok {
			return nil, upstream.Breaks("an image's address is data, and not in base64")
		}
		return decode(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, upstream.Breaks("an image's address: %w", err)
	}
	b, err := upstream.Exchange(client, req, MaxBytes)
	var request *upstream.RequestError
	if errors.As(err, &request) {
		// It was the provider's address and not the caller's.
		return nil, upstream.Breaks("an image's address: %w", err)
	}
	return b, err
}

func decode(encoded string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, upstream.Breaks("an image: %w", err)
	}
	return b, nil
}

// OpenAI speaks OpenAI's images (platform.openai.com/docs/api-reference/images),
// as others do too.
type OpenAI struct {
	// Base ends before /images/generations; Key is empty where none is wanted.
	Base, Key string
	Client    Doer
}

var _ Provider = OpenAI{}

// Make makes images. The protocol has neither seed nor negative prompt.
func (p OpenAI) Make(ctx context.Context, r Request) ([]Made, error) {
	if r.Seed != nil {
		return nil, upstream.Refuse("seed", "this model's provider has no such setting")
	}
	if r.Negative != "" {
		return nil, upstream.Refuse("negative_prompt", "this model's provider has no such setting")
	}
	authorization := ""
	if p.Key != "" {
		authorization = "Bearer " + p.Key
	}
	var answer struct {
		Data []struct {
			Base64 string `json:"b64_json"`
			URL    string `json:"url"`
		} `json:"data"`
	}
	err := call(ctx, p.Client, p.Base+"/images/generations", authorization, map[string]any{
		"model": r.Model, "prompt": r.Prompt, "n": r.Count, "size": fmt.Sprintf("%dx%d", r.Width, r.Height),
	}, &answer)
	if err != nil {
		return nil, err
	}
	var all []Made
	for _, d := range answer.Data {
		var b []byte
		if d.Base64 != "" {
			b, err = decode(d.Base64)
		} else {
			b, err = fetchImage(ctx, p.Client, d.URL)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, Made{Bytes: b})
	}
	return all, nil
}

// Fal speaks fal.ai's model endpoints (docs.fal.ai/model-endpoints), Flux among
// them.
type Fal struct {
	// Base is https://fal.run, before the model's path.
	Base, Key string
	Client    Doer
}

var _ Provider = Fal{}

// Make makes images.
func (p Fal) Make(ctx context.Context, r Request) ([]Made, error) {
	body := map[string]any{
		"prompt": r.Prompt, "num_images": r.Count, "image_size": map[string]int{"width": r.Width, "height": r.Height},
	}
	if r.Negative != "" {
		body["negative_prompt"] = r.Negative
	}
	if r.Seed != nil {
		body["seed"] = *r.Seed
	}
	var answer struct {
		Images []struct {
			URL string `json:"url"`
		} `json:"images"`
		Seed *int64 `json:"seed"`
	}
	if err := call(ctx, p.Client, p.Base+"/"+r.Model, "Key "+p.Key, body, &answer); err != nil {
		return nil, err
	}
	var all []Made
	for _, i := range answer.Images {
		b, err := fetchImage(ctx, p.Client, i.URL)
		if err != nil {
			return nil, err
		}
		all = append(all, Made{Bytes: b, Seed: answer.Seed})
	}
	return all, nil
}

// StableDiffusion speaks the API of Stable Diffusion's web UI, on a machine of
// the owner's own.
type StableDiffusion struct {
	// Base ends before /sdapi.
	Base   string
	Client Doer
}

var _ Provider = StableDiffusion{}

// Make makes images.
func (p StableDiffusion) Make(ctx context.Context, r Request) ([]Made, error) {
	body := map[string]any{
		"prompt": r.Prompt, "negative_prompt": r.Negative, "width": r.Width, "height": r.Height, "batch_size": r.Count, "seed": -1,
	}
	if r.Seed != nil {
		body["seed"] = *r.Seed
	}
	if r.Model != "" {
		body["override_settings"] = map[string]string{"sd_model_checkpoint": r.Model}
	}
	var answer struct {
		Images []string `json:"images"`
		Info   string   `json:"info"`
	}
	if err := call(ctx, p.Client, p.Base+"/sdapi/v1/txt2img", "", body, &answer); err != nil {
		return nil, err
	}
	var info struct {
		Seeds []int64 `json:"all_seeds"`
	}
	// A server that says nothing of seeds makes images all the same.
	_ = json.Unmarshal([]byte(answer.Info), &info)
	var all []Made
	for i, encoded := range answer.Images {
		b, err := decode(encoded)
		if err != nil {
			return nil, err
		}
		made := Made{Bytes: b}
		if i < len(info.Seeds) {
			made.Seed = &info.Seeds[i]
		}
		all = append(all, made)
	}
	return all, nil
}
