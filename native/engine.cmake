# The engine, without Python: a static library `engine` for the extension, and for native/tests.
find_package(Threads REQUIRED)
set(here ${CMAKE_CURRENT_LIST_DIR})
add_library(engine STATIC
  ${here}/device/kept_maps.cc
  ${here}/device/kernels_portable.cc
  ${here}/device/panels.cc
  ${here}/device/processor.cc
  ${here}/device/program.cc
  ${here}/device/steps.cc
  ${here}/device/thread_pool.cc
  ${here}/device/tiling.cc
  ${here}/device/transfer.cc
  ${here}/host/gather.cc
  ${here}/host/peak.cc
  ${here}/host/pictures.cc
  ${here}/host/pictures_portable.cc
  ${here}/numerics/blocks.cc
  ${here}/numerics/inputs.cc
  ${here}/numerics/maps.cc)
set_target_properties(engine PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
target_link_libraries(engine PUBLIC Threads::Threads)
# -ffp-contract=off: docs/spec/numerics.md allows a fused operation only where one is written.
set(engine_flags -Wall -Wextra -Wno-psabi -ffp-contract=off -fno-math-errno)
target_compile_options(engine PRIVATE ${engine_flags})

# Kernels for more than the baseline: one file each, with flags of its own. -O3, because size is no matter there, and
# no vectoriser, because g++ 12.2 miscompiles sums of byte products with VNNI.
set(kernel_flags -O3 -fno-tree-vectorize)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Intrinsics of g++ 12 begin from a register that nothing has set.
  list(APPEND kernel_flags -fno-predictive-commoning -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_sources(engine PRIVATE
    ${here}/device/kernels_avx2.cc ${here}/device/kernels_avx512amx.cc ${here}/device/kernels_avx512vnni.cc
    ${here}/host/pictures_avx2.cc ${here}/numerics/blocks_avx2.cc)
  set_source_files_properties(
    ${here}/device/kernels_avx2.cc ${here}/host/pictures_avx2.cc ${here}/numerics/blocks_avx2.cc
    PROPERTIES COMPILE_OPTIONS "${kernel_flags};-mavx2")
  set_property(SOURCE ${here}/device/kernels_avx2.cc APPEND PROPERTY COMPILE_OPTIONS -mfma)
  set_source_files_properties(${here}/device/kernels_avx512amx.cc ${here}/device/kernels_avx512vnni.cc
    PROPERTIES COMPILE_OPTIONS
    "${kernel_flags};-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mprfchw;-mprefer-vector-width=512")
  set_property(SOURCE ${here}/device/kernels_avx512amx.cc APPEND PROPERTY COMPILE_OPTIONS -mamx-tile -mamx-bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  target_sources(engine PRIVATE ${here}/device/kernels_neon.cc)
  set_source_files_properties(${here}/device/kernels_neon.cc PROPERTIES COMPILE_OPTIONS
    "${kernel_flags};-march=armv8.2-a+dotprod")
endif()
set_source_files_properties(
  ${here}/device/kernels_portable.cc ${here}/device/transfer.cc ${here}/host/peak.cc ${here}/host/pictures.cc
  ${here}/host/pictures_portable.cc ${here}/numerics/blocks.cc ${here}/numerics/inputs.cc
  PROPERTIES COMPILE_OPTIONS "-O3")
