load      section=2 row_pitch=256 exponents=4096 exponent_pitch=64 pixel_pitch=1 out=@0:8:1:bfp8 out_rows=16 out_columns=8 out_blocks=1 signal(matrix)
constants layer=1 offset=14784 count=2
weights   layer=1 format=bfp8 count=14 signal(matrix)
convolve  layer=1 in=@0:8:1:bfp8 in_rows=16 in_columns=8 in_y=-3 kernel_rows=7 stride_y=2 in_blocks=1 weight_format=bfp8 out=@256:16:2:bfp8 out_rows=4 out_columns=8 out_blocks=2 has_bias=1 activation=1 wait(load,weights) signal(vector)
convolve  layer=1 in=@0:8:1:bfp8 in_rows=16 in_columns=8 in_y=5 kernel_rows=7 stride_y=2 in_blocks=1 weight_format=bfp8 out=@320:16:2:bfp8 out_rows=4 out_columns=8 out_blocks=2 has_bias=1 activation=1 signal(vector)
pool      layer=2 in=@256:16:2:bfp8 in_rows=4 in_columns=8 kernel_rows=2 kernel_columns=2 stride_y=2 stride_x=2 out=@384:8:2:bfp8 out_rows=2 out_columns=4 out_blocks=2 wait(matrix)
pool      layer=2 in=@320:16:2:bfp8 in_rows=4 in_columns=8 kernel_rows=2 kernel_columns=2 stride_y=2 stride_x=2 out=@400:8:2:bfp8 out_rows=2 out_columns=4 out_blocks=2 wait(matrix) signal(matrix)
weights   layer=3 format=bfp8 offset=15040 address=14 count=32 signal(matrix)
convolve  layer=3 in=@384:8:2:bfp8 in_rows=4 in_columns=4 kernel_rows=4 kernel_columns=4 in_blocks=2 weights=14 weight_format=bfp8 out=@8:1:1:float32 out_rows=1 out_columns=1 out_blocks=1 last_channels=10 wait(weights,vector) signal(store)
store     layer=3 section=3 row_pitch=128 pixel_pitch=1 in=@8:1:1:float32 in_rows=1 in_columns=1 in_blocks=1 wait(matrix)
end
