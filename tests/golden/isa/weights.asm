weights   layer=12959 section=2 format=bfp8 offset=2507394727 address=3545535 count=16777215 wait(load,weights,matrix,vector,store) signal(load,weights,matrix,vector,store)
