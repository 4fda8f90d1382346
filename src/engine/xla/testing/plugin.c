/*
 * A PJRT plugin without a device, for tests: it lays the structs of pjrt_c_api.h (openxla/xla) out as a C compiler does,
 * refuses sizes as XLA does, and counts what it makes and frees. A program's text is a list of lines:
 *   results N      how many arrays a run makes (1): each is the sum of all float32 arguments
 *   donate I       argument I cannot be used after a run
 *   reject WORDS   compiling fails (INVALID_ARGUMENT)
 *   fail WORDS     starting a run fails (INTERNAL)
 *   late WORDS     the run's results fail
 *   memory BYTES   starting a run fails for want of memory
 *   takes BYTES    a run has temporaries of so many bytes, as the program says itself
 *   slow MS        the results are ready after so many milliseconds
 *   compile MS     compiling takes so long
 *   held           the results are ready when fake_held(0) was called, and fail if nobody calls it
 *   compile held   compiling takes until then
 *   crash          the process dies
 * A client that is told of several nodes exchanges values with the others through the key-value callbacks, from a thread of its own.
 * Built with -DMINOR=N it says to be of version 0.N, and with -DGROWN its structs have further fields at their ends. With -DLIMIT=N its
 * devices have N bytes, and with -DLARGEST=N at most N of them lie together.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MAJOR
#define MAJOR 0
#endif
#ifndef MINOR
#define MINOR 94
#endif
#ifndef LIMIT
#define LIMIT 1000000000
#endif
#ifdef GROWN
#define MORE void *more[3];
#define LAST more
#endif

#define HEAD size_t struct_size; void *extension;
#ifdef GROWN
#define SIZE(type, last) sizeof(type)
#else
#define MORE
#define SIZE(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))
#endif

enum { ERRORS, EVENTS, CLIENTS, BUFFERS, LOADED, EXECUTABLES, SERIALIZED, KINDS };
static int64_t made[KINDS], freed[KINDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void count(int64_t *which, int kind) { pthread_mutex_lock(&lock); which[kind]++; pthread_mutex_unlock(&lock); }

/* For tests: how many of each kind were made, then how many freed. */
void fake_counts(int64_t *out) {
  pthread_mutex_lock(&lock);
  memcpy(out, made, sizeof made);
  memcpy(out + KINDS, freed, sizeof freed);
  pthread_mutex_unlock(&lock);
}

typedef struct { int code; char *text; } Error;
static Error *error(int code, const char *text) {
  Error *e = malloc(sizeof *e);
  e->code = code; e->text = strdup(text);
  count(made, ERRORS);
  return e;
}

static Error *check_size(const char *name, size_t expected, size_t got) {
  char text[200];
  if (got >= expected) return 0;
  snprintf(text, sizeof text, "Unexpected %s size: expected %zu, got %zu. Check installed software versions.", name, expected, got);
  return error(3, text);
}
#define CHECK(type, last) do { Error *wrong = check_size(#type, SIZE(type, last), args->struct_size); if (wrong) return wrong; } while (0)

typedef struct { HEAD Error *error; } PJRT_Error_Destroy_Args;
static void error_destroy(PJRT_Error_Destroy_Args *args) {
  if (!args->error) return;
  free(args->error->text); free(args->error); count(freed, ERRORS);
}
typedef struct { HEAD const Error *error; const char *message; size_t message_size; } PJRT_Error_Message_Args;
static void error_message(PJRT_Error_Message_Args *args) {
  args->message = args->error->text; args->message_size = strlen(args->error->text);
}
typedef struct { HEAD const Error *error; int code; } PJRT_Error_GetCode_Args;
static Error *error_code(PJRT_Error_GetCode_Args *args) { args->code = args->error->code; return 0; }

typedef struct {
  HEAD const char *name; size_t name_size; int type;
  union { const char *string; int64_t int64; const int64_t *list; float f; bool b; };
  size_t value_size;
} PJRT_NamedValue;

typedef struct { HEAD } PJRT_Plugin_Initialize_Args;
static Error *initialize(PJRT_Plugin_Initialize_Args *args) { (void)args; return 0; }
typedef struct { HEAD const PJRT_NamedValue *attributes; size_t count; MORE } PJRT_Plugin_Attributes_Args;
static Error *attributes(PJRT_Plugin_Attributes_Args *args) {
  static const int64_t version[] = {1, 14, 2};
  static PJRT_NamedValue values[2];
  CHECK(PJRT_Plugin_Attributes_Args, count);
  values[0] = (PJRT_NamedValue){.struct_size = sizeof(PJRT_NamedValue), .name = "xla_version", .name_size = 11, .type = 1, .int64 = 2, .value_size = 1};
  values[1] = (PJRT_NamedValue){.struct_size = sizeof(PJRT_NamedValue), .name = "stablehlo_current_version", .name_size = 25, .type = 2, .list = version, .value_size = 3};
  args->attributes = values; args->count = 2;
  return 0;
}

#define WHEN_LET_GO -1
typedef struct { int64_t ready_at; Error *failure; } Event;
static int64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
/* For tests: whether what is held waits. */
static int held;
void fake_held(int is) { __atomic_store_n(&held, is, __ATOMIC_SEQ_CST); }
static bool is_held(void) { return __atomic_load_n(&held, __ATOMIC_SEQ_CST); }
static Error *wait_for_let_go(void) {
  for (int turn = 0; is_held(); turn++) {
    if (turn == 20000) return error(4, "nobody let go of what is held: the wait stops the one who would");
    usleep(1000);
  }
  return 0;
}
static Event *event(int64_t ready_at, const char *failure) {
  Event *e = calloc(1, sizeof *e);
  e->ready_at = ready_at;
  if (failure) { e->failure = malloc(sizeof(Error)); e->failure->code = 13; e->failure->text = strdup(failure); }
  count(made, EVENTS);
  return e;
}
typedef struct { HEAD Event *event; } PJRT_Event_Destroy_Args;
static Error *event_destroy(PJRT_Event_Destroy_Args *args) {
  if (!args->event) return 0;
  if (args->event->failure) { free(args->event->failure->text); free(args->event->failure); }
  free(args->event); count(freed, EVENTS);
  return 0;
}
typedef struct { HEAD Event *event; bool is_ready; MORE } PJRT_Event_IsReady_Args;
static Error *event_is_ready(PJRT_Event_IsReady_Args *args) {
  CHECK(PJRT_Event_IsReady_Args, is_ready);
  args->is_ready = args->event->ready_at == WHEN_LET_GO ? !is_held() : now() >= args->event->ready_at;
  return 0;
}
typedef struct { HEAD Event *event; } PJRT_Event_Await_Args;
static Error *event_await(PJRT_Event_Await_Args *args) {
  if (args->event->ready_at == WHEN_LET_GO) {
    Error *stuck = wait_for_let_go();
    if (stuck) return stuck;
  }
  while (now() < args->event->ready_at) usleep(500);
  return args->event->failure ? error(args->event->failure->code, args->event->failure->text) : 0;
}

typedef struct { char kind[32]; int id; } Description;
typedef struct { Description description; } Device;
#define DEVICES 2
typedef struct { Device *devices[DEVICES]; double fraction; int preallocate; } Client;
static Device devices[DEVICES] = {{{"Fake GPU", 0}}, {{"Fake GPU", 1}}};

typedef Error *CallbackError(int code, const char *message, size_t message_size);
typedef struct {
  HEAD const char *key; size_t key_size; int timeout_in_ms; CallbackError **callback_error; void *user_arg;
  char *value; size_t value_size; void (*deleter)(char *);
} PJRT_KeyValueGetCallback_Args;
typedef struct {
  HEAD const char *key; size_t key_size; CallbackError **callback_error; void *user_arg;
  char *value; size_t value_size; void (*deleter)(char *);
} PJRT_KeyValueTryGetCallback_Args;
typedef struct {
  HEAD const char *key; size_t key_size; const char *value; size_t value_size; CallbackError **callback_error; void *user_arg;
} PJRT_KeyValuePutCallback_Args;
typedef Error *GetCallback(PJRT_KeyValueGetCallback_Args *);
typedef Error *TryGetCallback(PJRT_KeyValueTryGetCallback_Args *);
typedef Error *PutCallback(PJRT_KeyValuePutCallback_Args *);
typedef struct {
  HEAD const PJRT_NamedValue *options; size_t num_options;
  GetCallback *kv_get; void *kv_get_arg; PutCallback *kv_put; void *kv_put_arg;
  Client *client; TryGetCallback *kv_try_get; void *kv_try_get_arg; MORE
} PJRT_Client_Create_Args;

typedef struct { PJRT_Client_Create_Args *args; int node, nodes; Error *failure; } Exchange;
static Error *callback_error(int code, const char *message, size_t size) {
  char text[500];
  snprintf(text, sizeof text, "%.*s", (int)size, message);
  return error(code, text);
}
static CallbackError *make_error = callback_error;
/* Whether a call failed with this code; the error is freed. */
static bool failed_with(Error *e, int code) {
  bool is = e && e->code == code;
  PJRT_Error_Destroy_Args destroy = {.error = e};
  error_destroy(&destroy);
  return is;
}
static void *exchange(void *data) {
  Exchange *x = data;
  char key[40], value[40];
  PJRT_KeyValueTryGetCallback_Args absent = {.key = "absent", .key_size = 6, .callback_error = &make_error};
  if (!failed_with(x->args->kv_try_get(&absent), 5)) { x->failure = error(13, "what is not stored was found"); return 0; }
  PJRT_KeyValueGetCallback_Args never = {.key = "absent", .key_size = 6, .timeout_in_ms = 30, .callback_error = &make_error};
  if (!failed_with(x->args->kv_get(&never), 4)) { x->failure = error(13, "what nobody stores was waited for in vain"); return 0; }
  snprintf(key, sizeof key, "node/%d", x->node);
  snprintf(value, sizeof value, "I am %d", x->node);
  PJRT_KeyValuePutCallback_Args put = {.key = key, .key_size = strlen(key), .value = value, .value_size = strlen(value), .callback_error = &make_error};
  if ((x->failure = x->args->kv_put(&put))) return 0;
  for (int other = 0; other < x->nodes; other++) {
    snprintf(key, sizeof key, "node/%d", other);
    snprintf(value, sizeof value, "I am %d", other);
    PJRT_KeyValueGetCallback_Args get = {.key = key, .key_size = strlen(key), .timeout_in_ms = 60000, .callback_error = &make_error};
    if ((x->failure = x->args->kv_get(&get))) return 0;
    if (get.value_size != strlen(value) || memcmp(get.value, value, get.value_size)) x->failure = error(13, "another value came than was stored");
    get.deleter(get.value);
  }
  return 0;
}
static Error *client_create(PJRT_Client_Create_Args *args) {
  CHECK(PJRT_Client_Create_Args, kv_try_get_arg);
  Exchange group = {.args = args};
  for (size_t i = 0; i < args->num_options; i++) {
    const PJRT_NamedValue *o = &args->options[i];
    bool fraction = o->name_size == 15 && !memcmp(o->name, "memory_fraction", 15) && o->type == 3 && o->f == 0.5f;
    bool preallocate = o->name_size == 11 && !memcmp(o->name, "preallocate", 11) && o->type == 4 && !o->b;
    bool node = o->name_size == 7 && !memcmp(o->name, "node_id", 7) && o->type == 1;
    bool nodes = o->name_size == 9 && !memcmp(o->name, "num_nodes", 9) && o->type == 1;
    if (node) group.node = o->int64;
    if (nodes) group.nodes = o->int64;
    if (o->value_size != 1 || !(fraction || preallocate || node || nodes)) return error(3, "Unexpected option name passed to PJRT_Client_Create");
  }
  if (group.nodes > 1) {
    pthread_t thread;
    pthread_create(&thread, 0, exchange, &group);
    pthread_join(thread, 0);
    if (group.failure) return group.failure;
  }
  Client *c = calloc(1, sizeof *c);
  for (int i = 0; i < DEVICES; i++) c->devices[i] = &devices[i];
  args->client = c;
  count(made, CLIENTS);
  return 0;
}
typedef struct { HEAD Client *client; } PJRT_Client_Destroy_Args;
static Error *client_destroy(PJRT_Client_Destroy_Args *args) { free(args->client); count(freed, CLIENTS); return 0; }
typedef struct { HEAD Client *client; const char *name; size_t size; } PJRT_Client_PlatformName_Args;
static Error *platform_name(PJRT_Client_PlatformName_Args *args) { args->name = "fakeXX"; args->size = 4; return 0; }
typedef struct { HEAD Client *client; const char *version; size_t size; } PJRT_Client_PlatformVersion_Args;
static Error *platform_version(PJRT_Client_PlatformVersion_Args *args) { args->version = "fake\n13000"; args->size = 10; return 0; }
typedef struct { HEAD Client *client; Device *const *devices; size_t count; } PJRT_Client_AddressableDevices_Args;
static Error *addressable_devices(PJRT_Client_AddressableDevices_Args *args) {
  args->devices = args->client->devices; args->count = DEVICES; return 0;
}

typedef struct { HEAD Device *device; Description *description; } PJRT_Device_GetDescription_Args;
static Error *device_description(PJRT_Device_GetDescription_Args *args) { args->description = &args->device->description; return 0; }
typedef struct { HEAD Description *description; const char *kind; size_t size; } PJRT_DeviceDescription_Kind_Args;
static Error *device_kind(PJRT_DeviceDescription_Kind_Args *args) {
  args->kind = args->description->kind; args->size = strlen(args->kind); return 0;
}
typedef struct {
  HEAD Device *device; int64_t bytes_in_use;
  int64_t peak; bool peak_is_set; int64_t allocs; bool allocs_is_set; int64_t largest; bool largest_is_set;
  int64_t limit; bool limit_is_set; int64_t reserved; bool reserved_is_set; int64_t peak_reserved; bool peak_reserved_is_set;
  int64_t reservable; bool reservable_is_set; int64_t free_block; bool free_block_is_set;
  int64_t pool; bool pool_is_set; int64_t peak_pool; bool peak_pool_is_set;
} PJRT_Device_MemoryStats_Args;
static int64_t in_use, peak;
static Error *memory_stats(PJRT_Device_MemoryStats_Args *args) {
  CHECK(PJRT_Device_MemoryStats_Args, peak_pool_is_set);
  if (args->device != &devices[0]) return error(12, "not implemented for this device");
  args->bytes_in_use = in_use; args->peak = peak; args->peak_is_set = true; args->limit = LIMIT; args->limit_is_set = true;
  args->pool = -1; args->peak_pool = -1; args->peak_pool_is_set = true;
#ifdef LARGEST
  args->pool = LIMIT; args->pool_is_set = true;
  args->free_block = LARGEST; args->free_block_is_set = true;
#endif
  return 0;
}

typedef struct { int results; int donated[8]; int donations; char reject[200], fail[200], late[200]; long long memory, takes; int slow, compile, held, compile_held, crash; } Program;
typedef struct { Program program; char text[4000]; } Loaded;

static void parse(Program *p, char *text) {
  p->results = 1;
  for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(0, "\n", &save)) {
    int n;
    if (sscanf(line, "results %d", &n) == 1) p->results = n;
    else if (sscanf(line, "donate %d", &n) == 1) p->donated[p->donations++] = n;
    else if (sscanf(line, "slow %d", &n) == 1) p->slow = n;
    else if (sscanf(line, "compile %d", &n) == 1) p->compile = n;
    else if (sscanf(line, "memory %lld", &p->memory) == 1) continue;
    else if (sscanf(line, "takes %lld", &p->takes) == 1) continue;
    else if (!strncmp(line, "reject ", 7)) snprintf(p->reject, sizeof p->reject, "%s", line + 7);
    else if (!strncmp(line, "fail ", 5)) snprintf(p->fail, sizeof p->fail, "%s", line + 5);
    else if (!strncmp(line, "late ", 5)) snprintf(p->late, sizeof p->late, "%s", line + 5);
    else if (!strcmp(line, "held")) p->held = 1;
    else if (!strcmp(line, "compile held")) p->compile_held = 1;
    else if (!strcmp(line, "crash")) p->crash = 1;
  }
}

/* The compile options of the last program, for tests. */
static char last_options[4000];
static size_t last_options_size;
size_t fake_options(char *out) { memcpy(out, last_options, last_options_size); return last_options_size; }

static Loaded *load(const char *text, size_t size) {
  Loaded *l = calloc(1, sizeof *l);
  char copy[4000] = {0};
  memcpy(l->text, text, size); memcpy(copy, text, size);
  parse(&l->program, copy);
  count(made, LOADED);
  return l;
}

typedef struct { HEAD char *code; size_t code_size; const char *format; size_t format_size; MORE } PJRT_Program;
typedef struct { HEAD Client *client; const PJRT_Program *program; const char *options; size_t options_size; Loaded *executable; MORE } PJRT_Client_Compile_Args;
static Error *client_compile(PJRT_Client_Compile_Args *args) {
  CHECK(PJRT_Client_Compile_Args, executable);
  Error *wrong = check_size("PJRT_Program", SIZE(PJRT_Program, format_size), args->program->struct_size);
  if (wrong) return wrong;
  if (args->program->format_size != 4 || memcmp(args->program->format, "mlir", 4)) return error(3, "unknown format");
  memcpy(last_options, args->options, args->options_size); last_options_size = args->options_size;
  Program p = {0};
  char copy[4000] = {0};
  memcpy(copy, args->program->code, args->program->code_size);
  parse(&p, copy);
  if (p.compile) usleep(1000 * p.compile);
  if (p.compile_held && (wrong = wait_for_let_go())) return wrong;
  if (p.reject[0]) return error(3, p.reject);
  args->executable = load(args->program->code, args->program->code_size);
  return 0;
}
typedef struct { HEAD Loaded *executable; } PJRT_LoadedExecutable_Destroy_Args;
static Error *loaded_destroy(PJRT_LoadedExecutable_Destroy_Args *args) { free(args->executable); count(freed, LOADED); return 0; }
typedef struct { HEAD Loaded *loaded; Loaded *executable; } PJRT_LoadedExecutable_GetExecutable_Args;
static Error *get_executable(PJRT_LoadedExecutable_GetExecutable_Args *args) {
  args->executable = malloc(sizeof(Loaded)); memcpy(args->executable, args->loaded, sizeof(Loaded)); count(made, EXECUTABLES); return 0;
}
typedef struct { HEAD Loaded *executable; } PJRT_Executable_Destroy_Args;
static Error *executable_destroy(PJRT_Executable_Destroy_Args *args) { free(args->executable); count(freed, EXECUTABLES); return 0; }
typedef struct { HEAD Loaded *executable; size_t count; } PJRT_Executable_NumOutputs_Args;
static Error *output_count(PJRT_Executable_NumOutputs_Args *args) { args->count = args->executable->program.results; return 0; }

typedef struct {
  HEAD Loaded *executable; int64_t code, arguments, outputs, aliased, temporaries;
  int64_t host_code, host_arguments, host_outputs, host_aliased, host_temporaries; MORE
} PJRT_Executable_GetCompiledMemoryStats_Args;
static Error *program_memory(PJRT_Executable_GetCompiledMemoryStats_Args *args) {
  CHECK(PJRT_Executable_GetCompiledMemoryStats_Args, host_temporaries);
  if (!args->executable->program.takes) return error(12, "not implemented for this program");
  // Results of 8 bytes, of which 4 lie in an argument's memory.
  args->outputs = 8; args->aliased = 4; args->temporaries = args->executable->program.takes;
  return 0;
}

static void serialized_free(void *s) { free(s); count(freed, SERIALIZED); }
typedef struct { HEAD const Loaded *executable; const char *bytes; size_t size; void *serialized; void (*deleter)(void *); } PJRT_Executable_Serialize_Args;
static Error *serialize(PJRT_Executable_Serialize_Args *args) {
  args->serialized = malloc(sizeof args->executable->text + 5);
  args->size = sprintf(args->serialized, "FAKE:%s", args->executable->text);
  args->bytes = args->serialized; args->deleter = serialized_free;
  count(made, SERIALIZED);
  return 0;
}
typedef struct { HEAD Client *client; const char *bytes; size_t size; Loaded *loaded; const char *options; size_t options_size; } PJRT_Executable_DeserializeAndLoad_Args;
static Error *deserialize(PJRT_Executable_DeserializeAndLoad_Args *args) {
  CHECK(PJRT_Executable_DeserializeAndLoad_Args, options_size);
  if (args->size < 5 || memcmp(args->bytes, "FAKE:", 5)) return error(3, "this is no executable");
  args->loaded = load(args->bytes + 5, args->size - 5);
  return 0;
}

typedef struct { char *data; size_t bytes; int type; int64_t dims[8]; size_t rank; int deleted; int64_t ready_at; char failure[200]; Device *device; } Buffer;
static const int type_bytes[] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2};
static Buffer *buffer(int type, const int64_t *dims, size_t rank, Device *device) {
  Buffer *b = calloc(1, sizeof *b);
  b->type = type; b->rank = rank; b->bytes = type_bytes[type]; b->device = device;
  for (size_t i = 0; i < rank; i++) { b->dims[i] = dims[i]; b->bytes *= dims[i]; }
  b->data = calloc(1, b->bytes + 1);
  count(made, BUFFERS);
  in_use += b->bytes;
  if (in_use > peak) peak = in_use;
  return b;
}
typedef struct {
  HEAD Client *client; const void *data; int type; const int64_t *dims; size_t num_dims;
  const int64_t *byte_strides; size_t num_byte_strides; int semantics; Device *device; void *memory; void *layout;
  Event *done; Buffer *buffer; MORE
} PJRT_Client_BufferFromHostBuffer_Args;
static Error *buffer_from_host(PJRT_Client_BufferFromHostBuffer_Args *args) {
  CHECK(PJRT_Client_BufferFromHostBuffer_Args, buffer);
  if (args->semantics != 0 || args->memory || args->layout || args->byte_strides) return error(12, "only copies of dense arrays");
  if (args->num_dims == 1 && args->dims[0] == 666)
    return error(8, "Out of memory while trying to allocate 2664 bytes.");
  args->buffer = buffer(args->type, args->dims, args->num_dims, args->device);
  memcpy(args->buffer->data, args->data, args->buffer->bytes);
  args->done = event(0, 0);
  return 0;
}
typedef struct { HEAD Buffer *buffer; } PJRT_Buffer_Destroy_Args;
static Error *buffer_destroy(PJRT_Buffer_Destroy_Args *args) {
  in_use -= args->buffer->bytes; free(args->buffer->data); free(args->buffer); count(freed, BUFFERS);
  return 0;
}
typedef struct { HEAD Buffer *buffer; const int64_t *dims; size_t rank; } PJRT_Buffer_Dimensions_Args;
static Error *dimensions(PJRT_Buffer_Dimensions_Args *args) { args->dims = args->buffer->dims; args->rank = args->buffer->rank; return 0; }
typedef struct { HEAD Buffer *buffer; size_t bytes; } PJRT_Buffer_OnDeviceSizeInBytes_Args;
static Error *on_device_size(PJRT_Buffer_OnDeviceSizeInBytes_Args *args) { args->bytes = args->buffer->bytes; return 0; }
typedef struct { HEAD const int64_t *minor_to_major; size_t rank; const int64_t *tile_dims; const size_t *tile_dim_sizes; size_t num_tiles; } Tiled;
typedef struct { HEAD const int64_t *byte_strides; size_t num_byte_strides; } Strides;
typedef struct { HEAD union { Tiled tiled; Strides strides; }; int type; } PJRT_Buffer_MemoryLayout;
typedef struct { HEAD Buffer *buffer; PJRT_Buffer_MemoryLayout *layout; void *data; size_t size; Event *event; } PJRT_Buffer_ToHostBuffer_Args;
static Error *to_host(PJRT_Buffer_ToHostBuffer_Args *args) {
  Buffer *b = args->buffer;
  Error *wrong = check_size("PJRT_Buffer_MemoryLayout", offsetof(PJRT_Buffer_MemoryLayout, type) + sizeof(int), args->layout->struct_size);
  if (wrong) return wrong;
  if (b->deleted) return error(3, "Buffer has been deleted or donated.");
  if (args->layout->type != 0 || args->layout->tiled.num_tiles || args->layout->tiled.rank != b->rank) return error(3, "another layout");
  for (size_t i = 0; i < b->rank; i++)
    if (args->layout->tiled.minor_to_major[i] != (int64_t)(b->rank - 1 - i)) return error(3, "another order");
  if (args->size < b->bytes) return error(3, "dst_size must be >= the size of the array");
  memcpy(args->data, b->data, b->bytes);
  args->event = event(b->ready_at, b->failure[0] ? b->failure : 0);
  return 0;
}
typedef struct { HEAD Buffer *buffer; Event *event; } PJRT_Buffer_ReadyEvent_Args;
static Error *ready_event(PJRT_Buffer_ReadyEvent_Args *args) {
  args->event = event(args->buffer->ready_at, args->buffer->deleted ? "Buffer has been deleted or donated." : args->buffer->failure[0] ? args->buffer->failure : 0);
  return 0;
}

typedef struct {
  HEAD void *send; void *receive; size_t sends; size_t receives; int launch_id;
  const int64_t *not_donated; size_t not_donated_size; void *context; const char *call_location;
  size_t tasks; int *task_ids; int64_t *incarnations; MORE
} PJRT_ExecuteOptions;
typedef struct {
  HEAD Loaded *executable; PJRT_ExecuteOptions *options; Buffer *const *const *arguments; size_t num_devices; size_t num_args;
  Buffer **const *outputs; Event **complete; Device *execute_device; MORE
} PJRT_LoadedExecutable_Execute_Args;
static Error *execute(PJRT_LoadedExecutable_Execute_Args *args) {
  CHECK(PJRT_LoadedExecutable_Execute_Args, execute_device);
  Error *wrong = check_size("PJRT_ExecuteOptions", SIZE(PJRT_ExecuteOptions, incarnations), args->options->struct_size);
  if (wrong) return wrong;
  Program *p = &args->executable->program;
  if (p->crash) abort();
  if (p->fail[0]) return error(13, p->fail);
  if (p->memory) {
    char text[200];
    snprintf(text, sizeof text, "Out of memory while trying to allocate %lld bytes.\nBufferAssignment OOM Debugging.", p->memory);
    return error(8, text);
  }
  for (size_t d = 0; d < args->num_devices; d++)
    for (size_t a = 0; a < args->num_args; a++)
      if (args->arguments[d][a]->deleted) return error(3, "Buffer has been deleted or donated.");
  for (size_t d = 0; d < args->num_devices; d++) {
    for (int r = 0; r < p->results; r++) {
      const Buffer *first = args->num_args ? args->arguments[d][0] : 0;
      Buffer *out = buffer(11, first ? first->dims : 0, first ? first->rank : 0, &devices[d]);
      for (size_t a = 0; a < args->num_args; a++)
        for (size_t i = 0; i < out->bytes / 4; i++)
          if (args->arguments[d][a]->type == 11) ((float *)out->data)[i] += ((float *)args->arguments[d][a]->data)[i];
      out->ready_at = p->held ? WHEN_LET_GO : p->slow ? now() + p->slow : 0;
      strcpy(out->failure, p->late);
      args->outputs[d][r] = out;
    }
    for (int i = 0; i < p->donations; i++) args->arguments[d][p->donated[i]]->deleted = 1;
  }
  return 0;
}

#define SLOTS 136
typedef struct { HEAD size_t version_size; void *version_extension; int major, minor; void *functions[SLOTS]; } Api;
_Static_assert(offsetof(Api, functions) == 40, "the functions begin at byte 40");

const void *GetPjrtApi(void) {
  static Api api;
  api.struct_size = sizeof api; api.version_size = 24; api.major = MAJOR; api.minor = MINOR;
  void **f = api.functions;
  f[0] = error_destroy; f[1] = error_message; f[2] = error_code; f[3] = initialize; f[4] = attributes;
  f[5] = event_destroy; f[6] = event_is_ready; f[8] = event_await;
  f[10] = client_create; f[11] = client_destroy; f[12] = platform_name; f[14] = platform_version; f[16] = addressable_devices;
  f[20] = client_compile; f[22] = buffer_from_host; f[26] = device_kind; f[29] = device_description; f[34] = memory_stats;
  f[40] = executable_destroy; f[44] = output_count; f[49] = serialize; f[50] = loaded_destroy; f[51] = get_executable;
  f[55] = execute; f[56] = deserialize; f[58] = buffer_destroy; f[60] = dimensions; f[64] = on_device_size;
  f[70] = to_host; f[72] = ready_event; f[96] = program_memory;
  return &api;
}
