package testnet

import (
	"io"
	"net/http"
	"testing"
)

// Fetch makes a request and returns the response, whose body is read and closed, and the body.
func Fetch(t testing.TB, client *http.Client, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}
