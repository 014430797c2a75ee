// The containers of `make nodes`: what pods run there, in one static program and so in one small image.
//
//	workload pause                      waits for SIGTERM: the sandbox of every pod
//	workload serve                      answers HTTP on :8080 with the name of its machine; after SIGTERM it serves on for DRAIN seconds
//	workload train                      counts to STEPS, one step every 100 ms; on SIGTERM it saves the count and ends with 1; the next
//	                                    pod reads the count and goes on
//
//	workload ask URL                    ends well if anything answers within 3 s, and with 1 otherwise
//
// The checkpoint lies where STORE says, e.g. http://172.30.0.1:9000/train: GET reads it, PUT writes it, as a bucket would.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	what := "pause"
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	switch what {
	case "pause":
		<-stop
	case "serve":
		serve(stop)
	case "train":
		os.Exit(train(stop))
	case "ask":
		ask(os.Args[len(os.Args)-1])
	default:
		log.Fatalf("workload: expected pause, serve, train or ask, found %q", what)
	}
}

// number reads a whole number from the environment.
func number(name string, otherwise int) int {
	value, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return value
}

func serve(stop <-chan os.Signal) {
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(answer, "%s %s\n", os.Getenv("NODE"), os.Getenv("NVIDIA_VISIBLE_DEVICES"))
	})}
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	<-stop
	log.Print("SIGTERM: serving on while the endpoints lose this pod")
	time.Sleep(time.Duration(number("DRAIN", 3)) * time.Second)
	ends, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_ = server.Shutdown(ends)
	log.Print("ended")
}

func ask(url string) {
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		log.Fatalf("no answer: %v", err)
	}
	answer.Body.Close()
	log.Printf("answered: %s", answer.Status)
}

// saved reads the checkpoint; there is none at the first start.
func saved(store string) (int, error) {
	answer, err := http.Get(store)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode == http.StatusNotFound {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return strconv.Atoi(first)
}

func save(store string, step int) error {
	body := fmt.Sprintf("%d %s", step, os.Getenv("POD"))
	request, err := http.NewRequest(http.MethodPut, store, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("the store answered %s", answer.Status)
	}
	return nil
}

// begin reads the checkpoint, for as long as the network needs to be there.
func begin(store string) int {
	var last error
	for range 50 {
		step, err := saved(store)
		if err == nil {
			return step
		}
		last = err
		time.Sleep(200 * time.Millisecond)
	}
	log.Fatalf("the checkpoint could not be read: %v", last)
	return 0
}

func train(stop <-chan os.Signal) int {
	store, steps := os.Getenv("STORE"), number("STEPS", 300)
	step := begin(store)
	log.Printf("begins at step %d of %d", step, steps)
	for ; step < steps; step++ {
		select {
		case <-stop:
			if err := save(store, step); err != nil {
				log.Printf("step %d is lost: %v", step, err)
				return 2
			}
			log.Printf("SIGTERM: saved step %d", step)
			return 1
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := save(store, step); err != nil {
		log.Print(err)
		return 2
	}
	log.Print("finished")
	return 0
}
