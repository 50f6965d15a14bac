// Streams chats over TLS: go run . MODEL [SECONDS]
//
// Reads a prompt a line. Ctrl-C ends an answer, and not the program. docs/clients/go.md explains it.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	chat "chat.example/gen/archestra/chat/v1"
)

// connect prepares a connection to the gateway. It is made by the first call.
func connect() (*grpc.ClientConn, error) {
	pem, err := os.ReadFile(os.Getenv("CHAT_GATEWAY_CA"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("CHAT_GATEWAY_CA has no certificate")
	}
	options := []grpc.DialOption{
		// A gateway that vanished is noticed after 40 s, also while a model thinks and nothing is sent.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// What Chat returns at once may have 16 MiB; unless told, clients read 4 MiB.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32 << 20)),
		// Several gateways behind one name take turns.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
	}
	if certificate := os.Getenv("CHAT_GATEWAY_CLIENT_CERTIFICATE"); certificate != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certificate, os.Getenv("CHAT_GATEWAY_CLIENT_KEY"))
			return &pair, err
		}
	} else {
		options = append(options, grpc.WithPerRPCCredentials(token(os.Getenv("CHAT_GATEWAY_TOKEN_FILE"))))
	}
	options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	return grpc.NewClient(strings.TrimPrefix(os.Getenv("CHAT_GATEWAY_SERVER"), "https://"), options...)
}

// token is the file with a bearer token. The token that it has now is sent.
type token string

func (file token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(text))}, nil
}

func (token) RequireTransportSecurity() bool { return true }

// failure is what a failed call says.
type failure struct {
	code       codes.Code
	text       string
	reason     string
	metadata   map[string]string
	retryAfter *time.Duration
}

func failureOf(err error) failure {
	said := status.Convert(err)
	found := failure{code: said.Code(), text: said.Message()}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.reason, found.metadata = detail.Reason, detail.Metadata
		case *errdetails.RetryInfo:
			wait := detail.RetryDelay.AsDuration()
			found.retryAfter = &wait
		}
	}
	return found
}

const (
	attemptsMax = 4
	firstWait   = 500 * time.Millisecond
	waitMax     = 20 * time.Second
)

// stream gives the events of an answer to each. The error says that the answer is not whole, and the
// metadata is the trailer of the last call. Cancelling the context ends the call, and the provider's
// work with it.
func stream(
	ctx context.Context, chats chat.ChatServiceClient, request *chat.StreamChatRequest, each func(*chat.StreamChatResponse),
) (metadata.MD, error) {
	for attempt := 1; ; attempt++ {
		begun := false
		call, err := chats.StreamChat(ctx, request)
		for err == nil {
			var response *chat.StreamChatResponse
			if response, err = call.Recv(); err == nil {
				begun = true
				each(response)
			}
		}
		var trailer metadata.MD
		if call != nil {
			trailer = call.Trailer()
		}
		if errors.Is(err, io.EOF) {
			return trailer, nil
		}
		wait, passes := waitBeforeRepeat(failureOf(err), attempt)
		deadline, limited := ctx.Deadline()
		if begun || !passes || (limited && time.Until(deadline) <= wait) {
			return trailer, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return trailer, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// waitBeforeRepeat says how long to wait before the call is made again, and whether it is.
func waitBeforeRepeat(of failure, attempt int) (time.Duration, bool) {
	passes := of.code == codes.Unavailable || of.retryAfter != nil || of.reason == "PROVIDER_RATE_LIMITED"
	if of.code == codes.Aborted || !passes || attempt == attemptsMax {
		return 0, false
	}
	// At random, so that clients which failed together do not come back together.
	wait := time.Duration(float64(min(firstWait<<(attempt-1), waitMax)) * (0.5 + rand.Float64()/2))
	if of.retryAfter != nil {
		wait = max(wait, *of.retryAfter)
	}
	return wait, true
}

// answer prints an answer as it arrives.
func answer(ctx context.Context, chats chat.ChatServiceClient, model, prompt string) (metadata.MD, error) {
	request := &chat.StreamChatRequest{
		OrganizationId: os.Getenv("CHAT_GATEWAY_ORGANIZATION"),
		Model:          model,
		Messages: []*chat.Message{{
			Role:  chat.Message_ROLE_USER,
			Parts: []*chat.ContentPart{{Part: &chat.ContentPart_Text{Text: &chat.TextPart{Text: prompt}}}},
		}},
	}
	if profile, set := os.LookupEnv("CHAT_GATEWAY_PROFILE"); set {
		request.ProfileId = &profile
	}
	return stream(ctx, chats, request, func(response *chat.StreamChatResponse) {
		switch event := response.Event.(type) {
		case *chat.StreamChatResponse_TextDelta:
			fmt.Print(event.TextDelta.Text)
		case *chat.StreamChatResponse_Finished:
			finished := event.Finished
			fmt.Printf("\n[%v, %d tokens]\n", finished.FinishReason, finished.Usage.GetTotalTokens())
		default:
			// Events that this program does not know: later versions add some.
		}
	})
}

// explain says what failed. Of an answer that broke off, also what it has used.
func explain(err error, trailer metadata.MD) {
	said := failureOf(err)
	fmt.Printf("\n%v %s: %s %v\n", said.code, said.reason, said.text, said.metadata)
	for _, bytes := range trailer.Get("archestra-usage-bin") {
		var usage chat.Usage
		if proto.Unmarshal([]byte(bytes), &usage) == nil {
			fmt.Printf("[broken off after %d tokens]\n", usage.GetTotalTokens())
		}
	}
}

func main() {
	seconds := 300.0
	if len(os.Args) > 2 {
		seconds, _ = strconv.ParseFloat(os.Args[2], 64)
	}
	if len(os.Args) < 2 || seconds <= 0 {
		fmt.Fprintln(os.Stderr, "go run . MODEL [SECONDS]")
		os.Exit(2)
	}
	connection, err := connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	chats, failed := chat.NewChatServiceClient(connection), false
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if !ask(chats, os.Args[1], strings.TrimSpace(lines.Text()), time.Duration(seconds*float64(time.Second))) {
			failed = true
		}
	}
	connection.Close()
	if failed {
		os.Exit(1)
	}
}

// ask prints an answer, or why there is none, which is a failure unless Ctrl-C ended it.
func ask(chats chat.ChatServiceClient, model, prompt string, limit time.Duration) bool {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	trailer, err := answer(ctx, chats, model, prompt)
	switch {
	case err == nil:
		return true
	case errors.Is(ctx.Err(), context.Canceled):
		fmt.Println("\n[cancelled]")
		return true
	default:
		explain(err, trailer)
		return false
	}
}
