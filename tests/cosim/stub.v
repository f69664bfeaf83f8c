// A stand-in for the NPU, quick to build: its registers and ports, and a copy of 128 bytes from inputs to outputs.
// The lowest byte of the inputs makes it go wrong: 1 hangs, 2 reports an error at instruction 1, 3 writes into
// its inputs, 4 reads outside of memory, 5 takes back a request, 6 ignores the bus.
module npu(input clk, input rst,
    input bus_cyc, input bus_stb, input bus_we, input [7:0] bus_adr, input [31:0] bus_dat_w,
    output reg [31:0] bus_dat_r, output reg bus_ack,
    output memory_valid, input memory_ready, output memory_write, output [31:0] memory_address,
    output [127:0] memory_data, output [15:0] memory_mask,
    input response_valid, output response_ready, input [127:0] response_data,
    output progress, output done,
    output trace_load_retired, output [23:0] trace_load_number, output [31:0] trace_load_cycles,
    output trace_weights_retired, output [23:0] trace_weights_number, output [31:0] trace_weights_cycles,
    output trace_matrix_retired, output [23:0] trace_matrix_number, output [31:0] trace_matrix_cycles,
    output trace_vector_retired, output [23:0] trace_vector_number, output [31:0] trace_vector_cycles,
    output trace_store_retired, output [23:0] trace_store_number, output [31:0] trace_store_cycles);
  localparam [127:0] DIGEST = 128'h0;  // tests put that of an architecture here

  localparam IDLE = 0, READ = 1, ANSWER = 2, WRITE = 3, DONE = 4, FAILED = 5;
  reg [2:0] state;
  reg [2:0] beat;
  reg [7:0] mode;
  reg [127:0] held;
  reg [31:0] cycles, inputs, outputs, reads, writes;
  wire busy = state == READ || state == ANSWER || state == WRITE;

  assign memory_valid = (state == READ || state == WRITE) && mode != 1 && !(mode == 5 && cycles[0]);
  assign memory_write = state == WRITE;
  assign memory_address = (state == WRITE && mode != 3 ? outputs : mode == 4 ? 32'hfffff000 : inputs) + {beat, 4'b0};
  assign memory_data = held;
  assign memory_mask = state == WRITE ? 16'hffff : 16'h0;
  assign response_ready = state == ANSWER;
  assign progress = busy && mode != 1;
  assign done = state == DONE;

  wire last = state == WRITE && memory_valid && memory_ready && beat == 7;
  assign trace_load_retired = state == ANSWER && response_valid && beat == 7;
  assign trace_load_number = 0;
  assign trace_load_cycles = cycles;
  assign trace_store_retired = last;
  assign trace_store_number = 1;
  assign trace_store_cycles = 8;
  assign {trace_weights_retired, trace_weights_number, trace_weights_cycles} = 0;
  assign {trace_matrix_retired, trace_matrix_number, trace_matrix_cycles} = 0;
  assign {trace_vector_retired, trace_vector_number, trace_vector_cycles} = 0;

  always @(posedge clk) begin
    if (busy) cycles <= cycles + 1;
    if (memory_valid && memory_ready) begin
      if (state == READ) begin state <= ANSWER; reads <= reads + 1; end
      else begin
        writes <= writes + 1;
        beat <= beat + 1;
        state <= beat == 7 ? DONE : READ;
      end
    end
    if (state == ANSWER && response_valid) begin
      held <= response_data;
      if (beat == 0) mode <= response_data[7:0];
      state <= beat == 0 && response_data[7:0] == 2 ? FAILED : WRITE;
    end
    bus_ack <= bus_cyc && bus_stb && !bus_ack && mode != 6;
    if (bus_cyc && bus_stb && bus_we && !bus_ack) case (bus_adr)
      6: if (bus_dat_w[1]) begin state <= IDLE; mode <= 0; end
         else if (bus_dat_w[0]) begin
           state <= READ; mode <= 0; beat <= 0; cycles <= 0; reads <= 0; writes <= 0;
         end
      14: inputs <= bus_dat_w;
      15: outputs <= bus_dat_w;
      default: ;
    endcase
    case (bus_adr)
      0: bus_dat_r <= 32'h47434E50;
      1: bus_dat_r <= 1;
      2: bus_dat_r <= DIGEST[31:0];
      3: bus_dat_r <= DIGEST[63:32];
      4: bus_dat_r <= DIGEST[95:64];
      5: bus_dat_r <= DIGEST[127:96];
      7: bus_dat_r <= {29'b0, state == FAILED, state == DONE, busy};
      8: bus_dat_r <= state == FAILED ? 1 : 0;
      9: bus_dat_r <= state == FAILED ? 1 : 0;
      16: bus_dat_r <= cycles;
      18: bus_dat_r <= state == DONE ? 2 : 0;
      20: bus_dat_r <= reads;
      21: bus_dat_r <= writes;
      25: bus_dat_r <= mode == 1 ? 2 : 0;                     // load runs
      40: bus_dat_r <= 1;                                     // store: instruction 1
      41: bus_dat_r <= mode == 1 ? 32'h101 : 0;               // waits for load
      26: bus_dat_r <= cycles;
      default: bus_dat_r <= 0;
    endcase
    if (rst) begin state <= IDLE; mode <= 0; cycles <= 0; bus_ack <= 0; end
  end
endmodule
